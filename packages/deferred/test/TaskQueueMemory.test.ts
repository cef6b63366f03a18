import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as TaskQueueTest from "@outlive/deferred/testing/TaskQueueTest"

TaskQueueTest.suite("memory", TaskQueueMemory.layer)

import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as TaskQueueModel from "@outlive/deferred/testing/TaskQueueModel"
import * as TaskQueueTest from "@outlive/deferred/testing/TaskQueueTest"

TaskQueueTest.suite("memory", TaskQueueMemory.layer)
TaskQueueModel.suite("memory", TaskQueueMemory.layer)

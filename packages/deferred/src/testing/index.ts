/**
 * Everything in `@outlive/deferred/testing`, one namespace a module. Each is also an entry of its own: `@outlive/deferred/testing/TaskQueueModel`.
 *
 * Written by `node scripts/boundaries.mjs --write`.
 *
 * @since 0.1.0
 */
export * as TaskQueueModel from "./TaskQueueModel.ts"
export * as TaskQueueTest from "./TaskQueueTest.ts"
export * as TaskSamples from "./TaskSamples.ts"
export * as TestTasks from "./TestTasks.ts"

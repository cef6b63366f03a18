/**
 * Everything in `@outlive/node`, one namespace a module. Each is also an entry of its own: `@outlive/node/DeferApi`.
 *
 * Written by `node scripts/boundaries.mjs --write`.
 *
 * @since 0.1.0
 */
export * as DeferApi from "./DeferApi.ts"
export * as Import from "./Import.ts"
export * as ImportBullMq from "./ImportBullMq.ts"
export * as ImportGraphileWorker from "./ImportGraphileWorker.ts"
export * as ImportPersistedQueue from "./ImportPersistedQueue.ts"
export * as ImportPgBoss from "./ImportPgBoss.ts"
export * as NodeInstance from "./NodeInstance.ts"
export * as PushAnswer from "./PushAnswer.ts"
export * as PushAuthenticator from "./PushAuthenticator.ts"
export * as PushDeadLetters from "./PushDeadLetters.ts"
export * as PushDelivery from "./PushDelivery.ts"
export * as PushDispatcher from "./PushDispatcher.ts"
export * as PushHandler from "./PushHandler.ts"
export * as PushKeys from "./PushKeys.ts"
export * as PushSignature from "./PushSignature.ts"
export * as QueueConfigFile from "./QueueConfigFile.ts"
export * as SqliteClient from "./SqliteClient.ts"
export * as TaskActivity from "./TaskActivity.ts"
export * as TaskQueueSqlite from "./TaskQueueSqlite.ts"

/**
 * Everything in `@outlive/core`, one namespace a module. Each is also an entry of its own: `@outlive/core/BackgroundCall`.
 *
 * Written by `node scripts/boundaries.mjs --write`.
 *
 * @since 0.1.0
 */
export * as BackgroundCall from "./BackgroundCall.ts"
export * as BackgroundThread from "./BackgroundThread.ts"
export * as Broadcast from "./Broadcast.ts"
export * as CallQueue from "./CallQueue.ts"
export * as Instance from "./Instance.ts"
export * as ThreadEvent from "./ThreadEvent.ts"

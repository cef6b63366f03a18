/**
 * Imports: what must compile and, by `@ts-expect-error`, what must not. Checked by `check`, never run.
 */
import * as Task from "@outlive/deferred/Task"
import type { TaskQueue, TaskQueueError } from "@outlive/deferred/TaskQueue"
import * as Import from "@outlive/node/Import"
import * as ImportBullMq from "@outlive/node/ImportBullMq"
import * as ImportPersistedQueue from "@outlive/node/ImportPersistedQueue"
import * as ImportPgBoss from "@outlive/node/ImportPgBoss"
import { Context, type Effect, Schema } from "effect"
import type { PersistedQueue, Redis } from "effect/persistence"
import type { SqlClient, SqlError } from "effect/sql"

class Mail extends Task.make("Mail", { payload: { to: Schema.String } }) {}
class Key extends Context.Service<Key, string>()("typetest/Key") {}
declare const Secret: Schema.Codec<string, string, Key, Key>
const Hidden = Task.make("Hidden", { payload: { secret: Secret } })
const Old = Schema.Struct({ email: Schema.String })

// ---- mappings are typed from the schema of the data to the payload
const plain: Import.Target<never> = Import.to(Mail)
Import.to(Mail, { options: ({ to }, { attempts }) => ({ headers: { to, attempts: String(attempts) } }) })
Import.to(Mail, { from: Old, payload: ({ email }) => ({ to: email }) })
// @ts-expect-error it has no such field
Import.to(Mail, { from: Old, payload: ({ mail }) => ({ to: mail }) })
// @ts-expect-error nor has the payload
Import.to(Mail, { from: Old, payload: ({ email }) => ({ from: email }) })
// @ts-expect-error how does the one become the other?
Import.to(Mail, { from: Old })
// @ts-expect-error the name is the job's
Import.to(Mail, { options: () => ({ name: "mine" }) })

// ---- what reading and storing need
type Fails = SqlError.SqlError | TaskQueueError | Import.UnknownSource
export const free: Effect.Effect<Import.Report, Fails, SqlClient.SqlClient | TaskQueue> = ImportPgBoss.run({
  jobs: { mail: plain },
})
const both = ImportPgBoss.run({ jobs: { mail: plain, hidden: Import.to(Hidden) } })
export const keyed: Effect.Effect<Import.Report, Fails, SqlClient.SqlClient | TaskQueue | Key> = both
// @ts-expect-error one of them needs the key
export const keyless: Effect.Effect<Import.Report, Fails, SqlClient.SqlClient | TaskQueue> = both
// @ts-expect-error a task is no mapping
ImportPgBoss.run({ jobs: { mail: Mail } })
// @ts-expect-error which queue?
ImportBullMq.run({ jobs: { mail: plain } })
export const redis: Effect.Effect<Import.Report, unknown, Redis.Redis | TaskQueue> = ImportBullMq.run({
  queue: "mails",
  jobs: { mail: plain },
})
export const drained: Effect.Effect<
  Import.Report,
  PersistedQueue.PersistedQueueError | TaskQueueError,
  PersistedQueue.PersistedQueueStore | TaskQueue
> = ImportPersistedQueue.run({ name: "mails", to: plain, idle: "forever" })

/**
 * One dead letter: how its last attempt failed, and why it is dead, for people.
 */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { AttemptFailure, DeadReason, TaskRecord } from "../TaskRecord.ts"

const read = Schema.decodeUnknownOption(
  Schema.fromJsonString(
    Schema.Struct({
      attempt: Schema.Finite,
      at: Schema.Finite,
      kind: Schema.Literals(["failure", "defect", "timeout", "crash"]),
      tag: Schema.String,
      message: Schema.String,
    }),
  ),
)

/** None when no attempt failed, or when the text is not one that a worker writes. */
export const failureOf = ({ failure }: TaskRecord): Option.Option<AttemptFailure> =>
  failure === undefined ? Option.none() : read(failure)

export const sentenceOf = (record: TaskRecord): string =>
  `task ${record.task} ${record.id} of queue ${record.queue} is dead${since(record.endedAt)}: ` +
  whyOf(record, record.reason!) +
  lastOf(record)

const whyOf = (record: TaskRecord, reason: DeadReason): string => {
  switch (reason) {
    case "PermanentFailure":
      return `attempt ${record.attempt} failed in a way that trying again does not mend`
    case "RetriesExhausted":
      return `attempt ${record.attempt} failed, and its retry policy allows no other`
    case "Undecodable":
      return `its payload, of version ${record.version}, does not decode with the schema of its task`
    case "UnknownTask":
      return "where it was delivered nobody knows its task"
    case "Expired":
      return `nobody had started it when its time was over${since(record.expiresAt)}`
    case "Crashed":
      return `its lease expired ${record.crashes} times, and ${record.maxCrashes} are allowed`
    case "PayloadMissing":
      return "its payload was stored apart, and is gone"
  }
}

const since = (at: number | undefined): string =>
  at === undefined ? "" : ` since ${DateTime.formatIso(DateTime.makeUnsafe(at))}`

const lastOf = (record: TaskRecord): string => {
  if (record.failure === undefined) return ""
  return Option.match(failureOf(record), {
    // Better than nothing: somebody wrote it in order to be read.
    onNone: () => `; its last failure is noted as ${record.failure}`,
    onSome: ({ message, tag }) => `; ${tag}: ${message}`,
  })
}

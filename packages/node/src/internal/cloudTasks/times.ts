/**
 * Cloud Tasks' times, and ours.
 */
import type { protos } from "@google-cloud/tasks"

type Timestamp = protos.google.protobuf.ITimestamp
type Duration = protos.google.protobuf.IDuration

/** A time or a length of time in milliseconds. */
export const toProto = (millis: number): { readonly seconds: number; readonly nanos: number } => {
  const seconds = Math.floor(millis / 1000)
  return { seconds, nanos: Math.round((millis - seconds * 1000) * 1e6) }
}

/** Milliseconds; `undefined` when it is not set. */
export const toMillis = (time: Timestamp | Duration | null | undefined): number | undefined =>
  time === null || time === undefined ? undefined : Number(time.seconds ?? 0) * 1000 + (time.nanos ?? 0) / 1e6

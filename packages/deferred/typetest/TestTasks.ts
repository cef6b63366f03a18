/**
 * The testing kit: what must compile and, by `@ts-expect-error`, what must not. Checked by `check`, never run.
 */
import * as Task from "@outlive/deferred/Task"
import * as TaskSamples from "@outlive/deferred/testing/TaskSamples"
import { Schema } from "effect"

const Renamed = Task.make("Renamed", {
  payload: Task.versions({ user: Schema.String }).to({ userId: Schema.String }, (old) => ({ userId: old.user })),
})

// ---- samples
TaskSamples.sample(Renamed, { userId: "ada" })
// @ts-expect-error a payload of an older version
TaskSamples.sample(Renamed, { user: "ada" })
TaskSamples.check(Renamed, { 1: [`{"user":"ada"}`] })
// @ts-expect-error samples are texts, as they are stored
TaskSamples.check(Renamed, { 1: [{ user: "ada" }] })

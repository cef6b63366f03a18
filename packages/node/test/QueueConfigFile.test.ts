import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as QueueConfig from "@outlive/deferred/QueueConfig"
import { QueueDefaults } from "@outlive/deferred/QueueDefaults"
import { unlimited } from "@outlive/deferred/QueueLimits"
import * as RetryPolicy from "@outlive/deferred/RetryPolicy"
import { TaskQueue } from "@outlive/deferred/TaskQueue"
import * as TaskQueueMemory from "@outlive/deferred/TaskQueueMemory"
import * as QueueConfigFile from "@outlive/node/QueueConfigFile"
import * as TaskQueueSqlite from "@outlive/node/TaskQueueSqlite"
import { Effect, Layer } from "effect"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "outlive-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true })),
)
const written = (name: string, text: string) =>
  Effect.map(folder, (path) => {
    const file = join(path, name)
    writeFileSync(file, text)
    return file
  })

const yaml = `# What the mailer may do.
application: shop
queue:
- name: mail
  rate: 500/m
  bucket_size: 40   # a burst
  retry_parameters:
    task_retry_limit: 7
    task_age_limit: 2d
- name: images
  max_concurrent_requests: 4
  ageing: 10m
  paused: true
`

const expected = {
  queue: [
    { name: "mail", rate: "500/m", bucket_size: 40, retry_parameters: { task_retry_limit: 7, task_age_limit: "2d" } },
    { name: "images", max_concurrent_requests: 4, ageing: "10m", paused: true },
  ],
  application: "shop",
}

describe("QueueConfigFile.load", () => {
  it.effect.each([
    ["queue.yaml", yaml],
    ["queue.json", JSON.stringify(expected)],
    ["queue.json", JSON.stringify(expected, undefined, "\t")],
    ["windows.yaml", `\uFEFF${yaml.replaceAll("\n", "\r\n")}`],
  ] as const)("reads %s", ([name, text]) =>
    Effect.gen(function* () {
      const file = yield* written(name, text)
      const config = yield* QueueConfig.decode(expected)
      assert.deepStrictEqual(yield* QueueConfigFile.load(file), config)
      assert.deepStrictEqual(yield* QueueConfigFile.load(pathToFileURL(file)), config)
    }),
  )

  it.effect.each(["", "# nothing yet\n", "queue:\n", "{}"])(
    "takes a file with nothing in it for no queues: %j",
    (text) =>
      Effect.gen(function* () {
        assert.deepStrictEqual((yield* QueueConfigFile.load(yield* written("queue.yaml", text))).queues, [])
      }),
  )

  const defaults = "defaults: &slow\n  rate: 1/h\n"
  it.effect.each([
    { line: 5, text: yaml.replace("500/m", "500"), message: "queue mail: rate must be 0, or a number" },
    {
      line: 6,
      text: yaml.replace("bucket_size", "bucket_sise"),
      message: "bucket_sise is no field here: is it bucket_size?",
    },
    { line: 9, text: yaml.replace("2d", "2w"), message: "queue mail: retry_parameters.task_age_limit must be" },
    { line: 10, text: yaml.replace("images", "mail"), message: "queue mail: name must be there once" },
    {
      line: 11,
      text: yaml.replace("- name: images", "- target: a\n  name: [images]"),
      message: "queue #2: name must be",
    },
    { line: 11, text: yaml.replace("- name: images", "-\n  target: a"), message: "queue #2: name is missing" },
    {
      line: 13,
      text: yaml.replace("true", "yes"),
      message: 'queue images: paused must be true or false, and is "yes"',
    },
    { line: 2, text: yaml.replace("shop", "5"), message: "queue configuration: application must be a text" },
    { line: 2, text: "\n- queue\n", message: "queue configuration: it must be a set of fields, and is a list" },
    { line: 1, text: "queue", message: 'queue configuration: it must be a set of fields, and is "queue"' },
    { line: 2, text: "queue:\n- &a { name: a, rate: 5 }\n- *a\n", message: "queue a: rate must be" },
    {
      line: 4,
      text: "queue:\n- name: a\n  retry_parameters: &slow\n    max_doublings: 1\n- { name: b, mode: pull, retry_parameters: *slow }",
      message: "queue b: retry_parameters.max_doublings must not be there",
    },
    { line: 1, text: `${defaults}queue:\n`, message: "defaults is no field here" },
    {
      line: 3,
      text: '{\n  "queue": [\n    { "name": "mail", "rate": 5 }\n  ]\n}',
      message: "queue mail: rate must be",
    },
  ])("names the line of a mistake: $line, $message", ({ line, message, text }) =>
    Effect.gen(function* () {
      const file = yield* written("queue.yaml", text)
      const error = yield* Effect.flip(QueueConfigFile.load(file))
      assert.strictEqual(error._tag, "InvalidQueueConfig")
      assert.include(error.message, `${file}:${line}: `)
      assert.include(error.message, message)
    }),
  )

  it.effect.each([
    { line: 3, text: "queue:\n- name: 'mail\n" },
    { line: 3, text: "queue:\n- name: a\n  name: b\n" },
    { line: 2, text: "queue:\n\t- name: a\n" },
    { line: 2, text: "queue: []\n---\nqueue: []\n" },
    { line: 1, text: "queue: *nowhere\n" },
    { line: 1, text: '{ "queue": [' },
  ])("names the line where a file stops being YAML: line $line", ({ line, text }) =>
    Effect.gen(function* () {
      const file = yield* written("queue.yaml", text)
      const error = yield* Effect.flip(QueueConfigFile.load(file))
      assert.strictEqual(error._tag === "QueueConfigFileError" ? error.reason : error._tag, "Syntax")
      assert.include(error.message, `${file}:${line}: not YAML: `)
    }),
  )

  it.effect("does not unfold a small file into a huge one", () =>
    Effect.gen(function* () {
      const bomb = ["a: &a [x, x, x, x, x, x, x, x, x]"]
      for (const [from, to] of ["ab", "bc", "cd", "de", "ef"]) bomb.push(`${to}: &${to} [${`*${from}, `.repeat(9)}]`)
      const error = yield* Effect.flip(QueueConfigFile.load(yield* written("queue.yaml", bomb.join("\n"))))
      assert.include(error.message, "not YAML: ")
    }),
  )

  it.effect("says which file is missing, and which cannot be read", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const missing = yield* Effect.flip(QueueConfigFile.load(join(path, "queue.yaml")))
      assert.strictEqual(missing.message, `${join(path, "queue.yaml")}: there is no such file`)
      const unreadable = yield* Effect.flip(QueueConfigFile.load(path))
      assert.strictEqual(unreadable._tag === "QueueConfigFileError" ? unreadable.reason : unreadable._tag, "Unreadable")
      assert.include(unreadable.message, `${path}: cannot be read: EISDIR`)
    }),
  )
})

describe("QueueConfigFile.layer", () => {
  it.effect("applies the file, and shows what it says of retries", () =>
    Effect.gen(function* () {
      const layer = QueueConfigFile.layer(yield* written("queue.yaml", yaml)).pipe(
        Layer.provideMerge(TaskQueueMemory.layer),
      )
      yield* Effect.gen(function* () {
        const queue = yield* TaskQueue
        const { byKey } = unlimited
        const images = { paused: true, rate: undefined, burst: 5, maxConcurrent: 4, ageing: 600_000, byKey }
        assert.deepStrictEqual(yield* queue.limits({ queue: "images" }), images)
        assert.strictEqual((yield* queue.limits({ queue: "mail" })).burst, 40)
        const retry = RetryPolicy.appEngine({ retryLimit: 7, ageLimit: "2 days" })
        assert.deepStrictEqual((yield* QueueDefaults).get("mail"), { retry, target: undefined })
      }).pipe(Effect.provide(layer))
    }),
  )

  it.effect("finds nothing to change when a second program starts on the same storage", () =>
    Effect.gen(function* () {
      const file = yield* written("queue.yaml", yaml)
      const storage = () => TaskQueueSqlite.layer({ filename: join(file, "..", "tasks.db") })
      const first = yield* Effect.provide(Effect.flatMap(QueueConfigFile.load(file), QueueConfig.apply), storage())
      assert.deepStrictEqual(
        first.map(({ field, queue }) => `${queue} ${field}`),
        ["mail rate", "mail burst", "images maxConcurrent", "images ageing", "images paused"],
      )
      const again = yield* Effect.provide(Effect.flatMap(QueueConfigFile.load(file), QueueConfig.apply), storage())
      assert.deepStrictEqual(again, [])
    }),
  )

  it.effect("fails where the file is wrong, and applies nothing", () =>
    Effect.gen(function* () {
      const file = yield* written("queue.yaml", yaml.replace("10m", "10"))
      yield* Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.provide(Effect.void, QueueConfigFile.layer(file)))
        assert.include(error.message, `${file}:12: queue images: ageing must be`)
        const queue = yield* TaskQueue
        assert.strictEqual((yield* queue.limits({ queue: "mail" })).rate, undefined)
      }).pipe(Effect.provide(TaskQueueMemory.layer))
    }),
  )
})

/** Each numbered example is run as a program, and what it prints is what it is said to print. */
import { execFile } from "node:child_process"
import { readdirSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

const expected: Record<string, ReadonlyArray<string>> = {
  "01-thread.ts": ["202 accepted, welcome-mail goes on", "out already? false", "the mail is out, after the answer"],
  "02-call.ts": [
    "done? false, it is running",
    "not yet",
    "Oslo: fair",
    "Oslo: fair",
    "no Atlantis",
    "failed: NoSuchCity",
  ],
  "04-task.ts": [
    "it is scheduled",
    "after six days it is scheduled",
    "water the plants (attempt 1)",
    "said after 7 days, it is succeeded",
    "an empty text is refused at once: SchemaError",
  ],
  "05-failures.ts": [
    "good charged in attempt 1",
    "busy charged in attempt 3",
    "holiday charged in attempt 1",
    "declined: its own typed error, by type",
    "expired: a dead letter, PermanentFailure: the card has expired",
    "broken: a dead letter, RetriesExhausted: cannot read the card",
  ],
  "06-survive.ts": [
    "the first process: SIGKILL",
    "the second process: 10 of 10 are done",
    "picture 5 took 2 attempts, the others one",
  ],
  "07-outbox.ts": ["order 1: the card was declined", "orders: 2", "receipts: 2", "attempts: Retry,Succeed"],
  "08-push.ts": [
    "a worker in the function: FrontendsNotSupported",
    "cat.png is small now, in attempt 1",
    "huge.png is small now, in attempt 2",
    "broken.png: its own typed error, by type",
    "a stranger: 403",
  ],
  "10-promotion.ts": [
    "run: MailboxFull",
    "background ada: sent in attempt 2",
    "background bob: MailboxFull",
    "defer ada: sent in attempt 2",
    "defer bob: MailboxFull",
  ],
  "11-schedule.ts": [
    "report of 2026-10-24T01:00:00.000Z",
    "report of 2026-10-25T02:00:00.000Z",
    "nobody is there for two nights",
    "report of 2026-10-27T02:00:00.000Z",
    "report of 2026-10-28T02:00:00.000Z",
  ],
  "12-tenants.ts": [
    "acme 0, bolt 0, cord 0, acme 1, acme 2, bolt 1, acme 3, acme 4, bolt 2, acme 5",
    "cord is done; bolt waits: key bolt",
    "cord 0, bolt 0, cord 1, bolt 1, bolt 0",
    "attempts of bolt: 1, 1",
  ],
  "13-latest.ts": [
    "five letters: Inserted, Replaced, Replaced, Replaced, Replaced",
    "saved: hello",
    "preview: h",
    "preview: hello",
    "indexing: hello",
    "while it is indexed: Inserted, Replaced",
    "indexing: big world",
  ],
  "14-groups.ts": [
    "0: small-cat.png",
    "1: Broken",
    "2: small-dog.png",
    "pets: 2 of 3 pictures, 100 bytes",
    "small-cat.png is out, 270 bytes",
    "not out: a task before it did not succeed",
    "which it was: succeeded,dead,cancelled",
  ],
  "15-once.ts": [
    "attempt 1: SIGKILL",
    "bookings: none",
    "attempt 2: SIGKILL",
    "bookings: of attempt 2",
    "booked in attempt 2, shipped in attempt 3",
    "bookings: of attempt 2",
  ],
  "16-batches.ts": [
    "sending to ada, bob, cyd",
    "sending to bob",
    "ada has it, attempt 1",
    "bob has it, attempt 2",
    "cyd has it, attempt 1",
    "looking up Oslo, Atlantis, Rome",
    "Oslo: fair",
    "Atlantis: there is no such city",
    "Rome: fair",
    "Oslo: fair",
  ],
  "17-workflow.ts": [
    "all orders wait for their charges: SIGKILL",
    "order a: paid 4200",
    "order b: declined in attempt 2",
    "order c: gave up: PermanentFailure",
    "3 orders, 3 charges",
  ],
  "18-import.ts": [
    "moved 2, known already 0",
    "left in letters: 1, refused",
    "moved 1, known already 0",
    "left in letters: 1, refused",
    "Welcome to ada@example.com",
    "Welcome to bob@example.com",
    "Welcome to cyd@example.com",
  ],
  "09-encrypted.ts": [
    'stored: {"~outlive/coded":"1 deflate,aes-256-gcm:2026-05 ...',
    "less than a tenth of it? true",
    "the account is on the disk? false, the task's name? true",
    "2600 characters for NO93 8601 1117 947, logged as <redacted>",
    "2600 characters for DE02 1203 0000, logged as <redacted>",
    "dead: the payload was encrypted with the key 2026-11, and the keys known here are 2026-05: add it to those of PayloadCodec.encryption",
    "2600 characters for FR14 2004, logged as <redacted>",
    'results, too: {"~outlive/coded":"1 aes-256-gcm:2026-11 ...',
  ],
  "03-call-queue.ts": ["90, 80, 70, 60, 50, 40, 30, 20, 10, 0, only 0, only 0, only 0, only 0, only 0"],
}

const run = (file: string) =>
  Effect.callback<string, Error>((resume) => {
    const path = fileURLToPath(new URL(file, import.meta.url))
    const child = execFile(process.execPath, [path], (error, stdout) =>
      resume(error === null ? Effect.succeed(stdout) : Effect.fail(error)),
    )
    return Effect.sync(() => child.kill())
  })

describe("example", () => {
  for (const [file, lines] of Object.entries(expected)) {
    it.live(file, () =>
      Effect.gen(function* () {
        assert.deepStrictEqual((yield* run(file)).trimEnd().split("\n"), lines)
      }),
    )
  }

  it("has an expectation for each", () => {
    const files = readdirSync(new URL(".", import.meta.url)).filter((name) => /^\d\d-.*\.ts$/.test(name))
    assert.deepStrictEqual(files.sort(), Object.keys(expected).sort())
  })
})

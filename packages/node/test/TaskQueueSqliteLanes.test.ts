/** The order of claims, against a plain sort of everything. */
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import type { TaskId } from "@outlive/deferred/TaskId"
import { Effect, Schema } from "effect"
import { makeJoinRows } from "../src/internal/sqlite/joinRows.ts"
import { makeLanes } from "../src/internal/sqlite/lanes.ts"
import { makeLedger } from "../src/internal/sqlite/ledger.ts"
import { makeLimits } from "../src/internal/sqlite/limits.ts"
import { makeLine } from "../src/internal/sqlite/line.ts"
import { makePlacing } from "../src/internal/sqlite/placing.ts"
import { migrate } from "../src/internal/sqlite/schema.ts"
import { Touched } from "../src/internal/sqlite/touched.ts"
import { makeTurns } from "../src/internal/sqlite/turns.ts"
import { makeKeys } from "../src/internal/sqlite/unique.ts"

const Waiting = Schema.Struct({
  task: Schema.Literals(["t", "u"]),
  version: Schema.Literals([1, 2]),
  priority: Schema.Literals([-2, 0, 0, 0.5, 1, 3, 100]),
  // Few, so that many are the same.
  eta: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 24 })),
})

describe("ready records", () => {
  it.effect.prop(
    "come in the order of the contract, by priority or by ageing, however many are asked for",
    {
      waiting: Schema.Array(Waiting),
      ageing: Schema.Literals(["none", 0, 1, 7.5, 40, 1e9]),
      limit: Schema.Literals([1, 2, 5, 20, 1000]),
    },
    (given) =>
      Effect.sync(() => {
        const { limit, waiting } = given
        const ageing = given.ageing === "none" ? undefined : given.ageing
        const db = new DatabaseSync(":memory:")
        migrate(db, 0)
        const touched = new Touched()
        const line = makeLine(db)
        const turns = makeTurns(db, { line, touched })
        const { insert } = makePlacing(db, {
          joinRows: makeJoinRows(db),
          keys: makeKeys(db, { touched, turns }),
          ledger: makeLedger(db),
          limits: makeLimits(db, touched),
          line,
          touched,
          turns,
        })
        const records = waiting.map(({ eta, priority, task, version }, index) => ({
          id: String(index) as TaskId,
          task,
          version,
          queue: "queue",
          payload: "",
          headers: {},
          priority,
          eta,
          onDuplicate: "fail" as const,
          tombstone: 0,
          maxCrashes: 0,
          keep: 0,
        }))
        for (const record of records) insert(record, { eta: record.eta }, 0)
        const params = {
          queues: [],
          tasks: [
            { name: "t", maxVersion: 1 },
            { name: "u", maxVersion: 2 },
          ],
          targets: [],
          lease: 0,
          worker: "",
          now: 20,
        }
        const found = makeLanes(db).ready("queue", params, limit, ageing)
        db.close()
        const weight = ({ eta, priority }: typeof Waiting.Type) => eta - priority * (ageing ?? 0)
        const expected = waiting
          .map((each, index) => ({ ...each, seq: index + 1 }))
          .filter(({ eta, task, version }) => eta <= 20 && (task === "u" || version === 1))
          .sort(
            (left, right) =>
              (ageing === undefined
                ? right.priority - left.priority || left.eta - right.eta
                : weight(left) - weight(right)) || left.seq - right.seq,
          )
          .slice(0, limit)
        assert.deepStrictEqual(
          found.map(({ seq }) => seq),
          expected.map(({ seq }) => seq),
        )
      }),
    // Long enough that priorities have long runs.
    { arbitrary: { size: 150 } },
  )
})

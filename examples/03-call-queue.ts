/**
 * A call queue as the single owner of a resource: an account that only one fiber ever touches, used by many.
 */
import * as CallQueue from "@outlive/core/CallQueue"
import { Console, Context, Effect, Layer, Schema } from "effect"

class TooLittle extends Schema.TaggedError<TooLittle>()("TooLittle", { balance: Schema.Int }) {}

class Account extends Context.Service<
  Account,
  { readonly withdraw: (amount: number) => Effect.Effect<number, TooLittle | CallQueue.CallQueueClosed> }
>()("example/Account") {
  static readonly layer = (opening: number) =>
    Layer.effect(
      Account,
      Effect.gen(function* () {
        const owner = yield* CallQueue.make({ consumers: 1, capacity: 100 })
        let balance = opening
        // Read, wait, write: safe, since nobody else is at it meanwhile.
        const withdrawal = Effect.fnUntraced(function* (amount: number) {
          const before = balance
          yield* Effect.sleep("1 millis")
          if (before < amount) return yield* new TooLittle({ balance: before })
          balance = before - amount
          return balance
        })
        return {
          withdraw: (amount) =>
            // With a hundred in line, the next waits for room.
            owner.call(withdrawal(amount), { whenFull: "wait" }).pipe(Effect.catchTag("CallQueueFull", Effect.die)),
        }
      }),
    )
}

export const program = Effect.gen(function* () {
  const account = yield* Account
  const results = yield* Effect.forEach(
    Array.from({ length: 15 }, () => 10),
    (amount) =>
      account.withdraw(amount).pipe(Effect.catchTag("TooLittle", ({ balance }) => Effect.succeed(`only ${balance}`))),
    { concurrency: "unbounded" },
  )
  yield* Console.log(results.join(", "))
}).pipe(Effect.provide(Account.layer(100)))

if (import.meta.main) await Effect.runPromise(program)

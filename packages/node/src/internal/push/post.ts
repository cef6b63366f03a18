/**
 * One delivery: the request, and what its answer means for the attempt.
 */
import * as Outcome from "@outlive/deferred/Outcome"
import type { TaskContext } from "@outlive/deferred/TaskContext"
import { Snooze, Throttled } from "@outlive/deferred/TaskFailure"
import type { TaskQueue } from "@outlive/deferred/TaskQueue"
import type { Attempt } from "@outlive/deferred/TaskRecord"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as PushAnswer from "../../PushAnswer.ts"
import * as PushDelivery from "../../PushDelivery.ts"
import type { PushKeys } from "../../PushKeys.ts"
import * as PushSignature from "../../PushSignature.ts"

export interface Target {
  readonly url: URL
  /** What the receiver sees as the path, and so what is signed. */
  readonly path: string
  /** Milliseconds. */
  readonly deadline: number
  /** Bytes. */
  readonly answerLimit: number
}

/** The handler over there is done. */
export interface Delivered {
  readonly result: string | undefined
}

/** The delivery failed, there or on its way. It has the tag of the handler's error, where that is known. */
export class DeliveryFailed extends Error {
  readonly _tag: string
  /** The encoded exit: JSON text. */
  readonly result: string | undefined
  readonly [Outcome.retryAfter]: number | undefined
  constructor(options: {
    readonly tag?: string | undefined
    readonly message: string
    readonly result?: string | undefined
    readonly retryAfter?: number | undefined
  }) {
    super(options.message)
    this._tag = options.tag ?? "DeliveryFailed"
    this.result = options.result
    this[Outcome.retryAfter] = options.retryAfter
  }
}

/** Dead over there, with the encoded exit. */
export class DeliveredDead extends Outcome.DeadElsewhere {
  readonly result: string | undefined
  constructor(
    options: ConstructorParameters<typeof Outcome.DeadElsewhere>[0] & { readonly result: string | undefined },
  ) {
    super(options)
    this.result = options.result
  }
}

export interface Parcel {
  readonly version: number
  /** JSON text. */
  readonly payload: string
  /** Milliseconds that the handler may take. */
  readonly timeout: number | undefined
  readonly context: TaskContext["Service"]
}

/** Delivers, and gives what the handler gave; fails with what makes the worker settle as the answer says. */
export const post = Effect.fnUntraced(function* (
  client: HttpClient.HttpClient.With<HttpClientError.HttpClientError, Scope.Scope>,
  keys: PushKeys["Service"],
  queue: TaskQueue["Service"],
  target: Target,
  parcel: Parcel,
): Effect.fn.Return<Delivered, DeliveryFailed | DeliveredDead | Snooze | Throttled> {
  const { context } = parcel
  const { deadline, url } = target
  const body = PushDelivery.encode(deliveryOf(parcel, deadline))
  const begun = yield* Clock.currentTimeMillis
  const { attempt, id } = context
  const signed = yield* PushSignature.headersFor(keys, { method: "POST", path: target.path, id, attempt, body })
  const request = HttpClientRequest.post(url).pipe(
    HttpClientRequest.setHeaders({ ...metadata(context, yield* earlier(queue, context)), ...signed }),
    HttpClientRequest.bodyText(body, PushDelivery.contentType),
  )
  const where = `${url.origin}${url.pathname}`
  const failed = (message: string) => new DeliveryFailed({ message: `${message} (attempt ${attempt})` })
  const { response, text } = yield* client.execute(request).pipe(
    Effect.flatMap((response) => Effect.map(read(response, target.answerLimit), (text) => ({ response, text }))),
    Effect.scoped,
    Effect.mapError((error) => failed(`no answer from ${where}: ${error.message}`)),
    Effect.timeoutOrElse({
      duration: deadline,
      orElse: () => Effect.fail(failed(`no answer from ${where} within ${deadline} ms`)),
    }),
  )
  const now = yield* Clock.currentTimeMillis
  const said = `HTTP ${response.status} from ${where} after ${now - begun} ms (attempt ${attempt})`
  return yield* understand({ response, text, said, now, context })
})

const deliveryOf = ({ context, payload, timeout, version }: Parcel, deadline: number): PushDelivery.Delivery => {
  const { attempt, crashes, enqueuedAt, eta, firstAttemptAt, headers, id, name, previousFailure, queue, task } = context
  return {
    outlive: 1,
    id,
    task,
    version,
    queue,
    ...(Option.isSome(name) && { name: name.value }),
    headers,
    enqueuedAt: enqueuedAt.epochMilliseconds,
    eta: eta.epochMilliseconds,
    ...(timeout !== undefined && { timeout }),
    attempt: {
      number: attempt,
      crashes,
      firstAttemptAt: firstAttemptAt.epochMilliseconds,
      deadline,
      ...(Option.isSome(previousFailure) && { previousFailure: previousFailure.value }),
    },
    keepsDead: true,
    payload,
  }
}

/** The attempts that ended before this one. What they tell goes into headers only: without them it is delivered all the same. */
const earlier = (queue: TaskQueue["Service"], { id }: TaskContext["Service"]): Effect.Effect<ReadonlyArray<Attempt>> =>
  queue.ledger({ ids: [id] }).pipe(
    Effect.map(([attempts]) => attempts ?? []),
    Effect.catch((error) => Effect.as(Effect.logDebug(`the ledger could not be read: ${error.message}`), [])),
  )

/** As `post` writes it into the ledger. */
const statusOf = ({ failure }: Attempt): string | undefined => /"message":"HTTP ([0-9]{3}) /.exec(failure ?? "")?.[1]

/**
 * The headers of App Engine (Q100-Q105), and the same under our own name. Attempts that never reached a handler count as
 * retries (Q101), answers as executions (Q102).
 */
const metadata = (context: TaskContext["Service"], ended: ReadonlyArray<Attempt>): Record<string, string> => {
  const name = Option.getOrElse(context.name, () => context.id)
  const last = ended.at(-1)
  const status = last === undefined ? undefined : statusOf(last)
  return {
    "user-agent": "Outlive",
    "x-outlive-task": encodeURIComponent(context.task),
    "x-outlive-queue": context.queue,
    "x-appengine-queuename": context.queue,
    "x-appengine-taskname": name,
    "x-appengine-taskretrycount": `${Math.max(context.attempt - 1, ended.length)}`,
    "x-appengine-taskexecutioncount": `${ended.filter((attempt) => statusOf(attempt) !== undefined).length}`,
    "x-appengine-tasketa": `${context.eta.epochMilliseconds / 1_000}`,
    ...(status !== undefined && { "x-appengine-taskpreviousresponse": status }),
    ...(last !== undefined && status === undefined && { "x-appengine-taskretryreason": last.outcome }),
  }
}

/** The body of an answer, as far as it may be read. A longer one is let go: its status says enough. */
const read = (
  response: HttpClientResponse.HttpClientResponse,
  limit: number,
): Effect.Effect<string | undefined, HttpClientError.HttpClientError> =>
  Effect.suspend(() => {
    const chunks: Array<Uint8Array> = []
    let size = 0
    return response.stream.pipe(
      Stream.takeWhile((chunk) => {
        size += chunk.length
        chunks.push(chunk)
        return size <= limit
      }),
      Stream.runDrain,
      Effect.catchIf(
        ({ reason }) => reason._tag === "EmptyBodyError",
        () => Effect.void,
      ),
      Effect.map(() => (size <= limit ? Buffer.concat(chunks).toString() : undefined)),
    )
  })

/** From 30 days on a target's word on when to come again is not taken (Q10). */
const longestPause = 2_592_000_000

const understand = Effect.fnUntraced(function* (options: {
  readonly response: HttpClientResponse.HttpClientResponse
  readonly text: string | undefined
  readonly said: string
  readonly now: number
  readonly context: TaskContext["Service"]
}): Effect.fn.Return<Delivered, DeliveryFailed | DeliveredDead | Snooze | Throttled> {
  const { response, said } = options
  const { headers, status } = response
  const ours = headers[PushAnswer.outcomeHeader]
  const answer = ours === undefined || options.text === undefined ? undefined : PushAnswer.parse(options.text)
  const asked = PushAnswer.parseRetryAfter(headers["retry-after"], options.now)
  const pause = asked === undefined ? undefined : Math.min(asked, longestPause)
  if (answer?.progress !== undefined) yield* noteProgress(options.context, answer.progress)
  const failure = answer?.failure
  const message = failure === undefined ? said : `${said}: ${failure.message}`
  if (answer?.outcome === "Dead" && answer.reason !== undefined) {
    const { reason, result } = answer
    return yield* Effect.fail(new DeliveredDead({ reason, tag: failure?.tag ?? reason, message, result }))
  }
  if (status >= 200 && status < 300) return { result: answer?.result }
  // The attempt there never began, or was given back: it does not count here either.
  if (ours === "Snoozed" || ours === "Released" || ours === "Refused") {
    const later = pause ?? 1_000
    const of = ours === "Snoozed" ? answer?.pause : undefined
    return yield* Effect.fail(of === undefined ? Snooze.for(later) : Throttled.for(later, { of }))
  }
  const honoured = ours !== undefined || status === 408 || status === 429 || status === 503
  return yield* Effect.fail(
    new DeliveryFailed({
      tag: failure?.tag,
      message,
      result: answer?.result,
      retryAfter: honoured ? pause : undefined,
    }),
  )
})

const noteProgress = (context: TaskContext["Service"], text: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    try {
      return context.progress(JSON.parse(text))
    } catch {
      return Effect.logDebug("the answer's progress is not JSON and was left out")
    }
  })

/**
 * What Cloud Tasks remembers and by which rules, as its public protos and the recorded facts say (rows C1-C23): queues,
 * tasks, tombstones, and which task is dispatched when.
 */
import { protos } from "@google-cloud/tasks"
import { status } from "@grpc/grpc-js"

export const types = protos.google.cloud.tasks.v2beta3
type ITask = protos.google.cloud.tasks.v2beta3.ITask
type IQueue = protos.google.cloud.tasks.v2beta3.IQueue
type IHttpRequest = protos.google.cloud.tasks.v2beta3.IHttpRequest
type IRetryConfig = protos.google.cloud.tasks.v2beta3.IRetryConfig
type ITime = protos.google.protobuf.ITimestamp | protos.google.protobuf.IDuration

/** A gRPC status as an answer. */
export class Failed extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }
}
const invalid = (message: string) => new Failed(status.INVALID_ARGUMENT, message)

export const millisOf = (time: ITime | null | undefined): number | undefined =>
  time === null || time === undefined ? undefined : Number(time.seconds ?? 0) * 1000 + (time.nanos ?? 0) / 1e6
export const timeOf = (millis: number) => ({
  seconds: Math.floor(millis / 1000),
  nanos: Math.round((millis % 1000) * 1e6),
})
/** C4, C18: what is below a second is cut off. */
const whole = (millis: number) => Math.floor(millis / 1000) * 1000

interface Retry {
  readonly maxAttempts: number
  readonly maxRetryDuration: number
  readonly minBackoff: number
  readonly maxBackoff: number
  readonly maxDoublings: number
}

export interface StoredTask {
  readonly name: string
  readonly http: IHttpRequest
  readonly createTime: number
  readonly dispatchDeadline: number
  readonly retry: Retry | undefined
  scheduleTime: number
  dispatchCount: number
  responseCount: number
  /** C20: answers below 500. */
  executionCount: number
  firstAttemptAt: number | undefined
  lastAttempt:
    | { scheduleTime: number; dispatchTime: number; responseTime?: number; code?: number; message?: string }
    | undefined
  previousResponse: number | undefined
  running: boolean
}

export interface StoredQueue {
  readonly name: string
  state: "RUNNING" | "PAUSED" | "DISABLED"
  rate: number
  burst: number
  concurrent: number
  retry: Retry
  tombstoneTtl: number
  readonly taskTtl: number
  tokens: number
  tokensAt: number
  throttledUntil: number
  executed: Array<number>
  readonly tasks: Map<string, StoredTask>
  readonly tombstones: Map<string, number>
}

/** How a task ended. */
export interface Ending {
  readonly name: string
  readonly how: "succeeded" | "exhausted" | "expired"
  readonly at: number
}

const hour = 3_600_000
const day = 24 * hour
/** C8. */
const mostBytes = 1_048_569

export class State {
  readonly queues = new Map<string, StoredQueue>()
  readonly deletedQueues = new Map<string, number>()
  readonly endings: Array<Ending> = []
  readonly now: () => number
  #pages = new Map<string, { at: number; rest: ReadonlyArray<string> }>()
  #count = 0

  constructor(now: () => number) {
    this.now = now
  }

  // ---- queues

  createQueue(request: { parent?: string | null; queue?: IQueue | null }): IQueue {
    const name = request.queue?.name ?? ""
    if (!name.startsWith(`${request.parent}/queues/`))
      throw invalid(`Queue name "${name}" is not of ${request.parent}.`)
    if (this.queues.has(name)) throw new Failed(status.ALREADY_EXISTS, "Queue already exists")
    return this.#put(name, request.queue ?? {}, undefined)
  }

  updateQueue(request: { queue?: IQueue | null; updateMask?: { paths?: Array<string> | null } | null }): IQueue {
    const name = request.queue?.name ?? ""
    return this.#put(name, request.queue ?? {}, request.updateMask?.paths ?? [])
  }

  #put(name: string, given: IQueue, mask: ReadonlyArray<string> | undefined): IQueue {
    // C2
    if (!/^projects\/[^/]+\/locations\/[^/]+\/queues\/[A-Za-z0-9-]{1,100}$/.test(name)) {
      throw invalid("Queue ID can contain only letters ([A-Za-z]), numbers ([0-9]), or hyphens (-).")
    }
    const until = this.deletedQueues.get(name)
    if (until !== undefined && until > this.now()) {
      // C21
      throw new Failed(
        status.FAILED_PRECONDITION,
        "The queue cannot be created because a queue with this name existed too recently.",
      )
    }
    const old = this.queues.get(name)
    const says = (path: string) =>
      old === undefined || !mask?.length || mask.some((each) => each === path || each.startsWith(`${path}.`))
    const rates = says("rate_limits") ? given.rateLimits : undefined
    const { maxBurstSize, maxConcurrentDispatches, maxDispatchesPerSecond } = rates ?? {}
    // C3
    if ((maxDispatchesPerSecond ?? 0) > 500 || (maxDispatchesPerSecond ?? 0) < 0) {
      throw invalid("Queue.rate_limits.max_dispatches_per_second must be 0 to 500.")
    }
    if ((maxConcurrentDispatches ?? 0) > 5000) throw invalid("max_concurrent_dispatches must be at most 5000.")
    if ((maxBurstSize ?? 0) > 500) throw invalid("max_burst_size must be at most 500.")
    const retry = says("retry_config") && given.retryConfig ? retryOf(given.retryConfig) : undefined
    const tombstoneTtl = says("tombstone_ttl") ? millisOf(given.tombstoneTtl) : undefined
    // C7
    if (tombstoneTtl !== undefined && !(tombstoneTtl >= hour && tombstoneTtl <= 9 * day)) {
      throw invalid("tombstone_ttl must be 1 hour to 9 days.")
    }
    const fresh = {
      // C5
      rate: 500,
      burst: 100,
      concurrent: 1000,
      retry: { maxAttempts: 100, maxRetryDuration: 0, minBackoff: 100, maxBackoff: hour, maxDoublings: 16 },
      tombstoneTtl: hour,
    }
    const queue: StoredQueue = old ?? {
      ...fresh,
      name,
      state: "RUNNING",
      taskTtl: 31 * day,
      tokens: 0,
      tokensAt: this.now(),
      throttledUntil: 0,
      executed: [],
      tasks: new Map(),
      tombstones: new Map(),
    }
    // Without a mask all fields are updated: to their defaults, if nothing is said of them.
    if (old !== undefined && !mask?.length) Object.assign(queue, fresh)
    if (maxDispatchesPerSecond) {
      queue.rate = maxDispatchesPerSecond
      // A new rate brings a burst with it unless that is given.
      queue.burst = maxBurstSize || Math.max(1, Math.ceil(maxDispatchesPerSecond / 5))
    } else if (maxBurstSize) queue.burst = maxBurstSize
    if (maxConcurrentDispatches) queue.concurrent = maxConcurrentDispatches
    if (retry !== undefined) queue.retry = retry
    if (tombstoneTtl !== undefined) queue.tombstoneTtl = tombstoneTtl
    if (old === undefined) queue.tokens = queue.burst
    this.queues.set(name, queue)
    return this.shown(queue, [])
  }

  queue(name: string | null | undefined): StoredQueue {
    const queue = this.queues.get(name ?? "")
    // C21
    if (queue === undefined) throw new Failed(status.NOT_FOUND, "Queue does not exist.")
    return queue
  }

  shown(queue: StoredQueue, paths: ReadonlyArray<string>): IQueue {
    const now = this.now()
    const running = [...queue.tasks.values()].filter((task) => task.running)
    const etas = [...queue.tasks.values()].filter((task) => !task.running).map((task) => task.scheduleTime)
    const stats = {
      tasksCount: queue.tasks.size,
      concurrentDispatchesCount: running.length,
      executedLastMinuteCount: queue.executed.filter((at) => at > now - 60_000).length,
      ...(etas.length > 0 && { oldestEstimatedArrivalTime: timeOf(Math.min(...etas)) }),
    }
    if (paths.length > 0 && paths.every((path) => path.startsWith("stats"))) return { name: queue.name, stats }
    return {
      name: queue.name,
      state: queue.state,
      rateLimits: {
        maxDispatchesPerSecond: queue.rate,
        maxBurstSize: queue.burst,
        maxConcurrentDispatches: queue.concurrent,
      },
      retryConfig: {
        maxAttempts: queue.retry.maxAttempts,
        maxRetryDuration: timeOf(queue.retry.maxRetryDuration),
        minBackoff: timeOf(queue.retry.minBackoff),
        maxBackoff: timeOf(queue.retry.maxBackoff),
        maxDoublings: queue.retry.maxDoublings,
      },
      taskTtl: timeOf(queue.taskTtl),
      tombstoneTtl: timeOf(queue.tombstoneTtl),
      ...(paths.includes("stats") && { stats }),
    }
  }

  deleteQueue(name: string | null | undefined): void {
    const queue = this.queue(name)
    this.queues.delete(queue.name)
    this.deletedQueues.set(queue.name, this.now() + 7 * day)
  }

  setState(name: string | null | undefined, state: StoredQueue["state"]): IQueue {
    const queue = this.queue(name)
    queue.state = state
    return this.shown(queue, [])
  }

  purge(name: string | null | undefined): IQueue {
    const queue = this.queue(name)
    for (const task of [...queue.tasks.values()]) this.bury(queue, task)
    return this.shown(queue, [])
  }

  // ---- tasks

  createTask(request: { parent?: string | null; task?: ITask | null; responseView?: unknown }): ITask {
    const queue = this.queue(request.parent)
    const now = this.now()
    const task = request.task ?? {}
    const name = task.name || `${queue.name}/tasks/${9_000_000_000 + ++this.#count}`
    // C21: a name of another queue. C2.
    if (!name.startsWith(`${queue.name}/tasks/`))
      throw invalid("The queue name from request does not match the task's.")
    if (!/^[A-Za-z0-9_-]{1,500}$/.test(name.slice(`${queue.name}/tasks/`.length))) {
      throw invalid("Task ID can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or underscores (_).")
    }
    const http = task.httpRequest
    if (!http) throw invalid("Task.http_request must be set.")
    // C21: only the beginning is looked at.
    if (!/^https?:\/\//.test(http.url ?? "")) throw invalid("HttpRequest.url must start with http:// or https://.")
    // C10
    const method = String(http.httpMethod || "POST")
    if ((http.body?.length ?? 0) > 0 && !["POST", "PUT", "PATCH", "1", "4", "6"].includes(method)) {
      throw invalid("HttpRequest.body is not allowed with this method.")
    }
    // C8
    const headerBytes = Object.entries(http.headers ?? {}).reduce(
      (sum, [key, value]) => sum + key.length + value.length,
      0,
    )
    if (headerBytes >= 80 * 1024) throw invalid("The headers are too large.")
    const createTime = whole(now)
    const size = types.Task.encode(types.Task.fromObject({ ...task, createTime: timeOf(createTime) })).finish().length
    if (size > mostBytes) throw invalid(`Task size too large: ${size} > ${mostBytes}`)
    // C9
    const dispatchDeadline = Math.floor(millisOf(task.dispatchDeadline) ?? 600_000)
    if (!(dispatchDeadline >= 15_000 && dispatchDeadline <= 1_800_000)) {
      throw invalid("The dispatchDeadline must be between [15s, 30m].")
    }
    // C6
    const scheduleTime = millisOf(task.scheduleTime) ?? now
    if (scheduleTime > now + 30 * day) throw invalid("The Task.scheduleTime is too far in the future.")
    // C7
    const tombstone = queue.tombstones.get(name)
    if (queue.tasks.has(name) || (tombstone !== undefined && tombstone > now)) {
      throw new Failed(status.ALREADY_EXISTS, "Requested entity already exists")
    }
    const stored: StoredTask = {
      name,
      http,
      createTime,
      dispatchDeadline,
      retry: task.retryConfig ? retryOf(task.retryConfig, queue.retry) : undefined,
      scheduleTime: Math.max(now, scheduleTime),
      dispatchCount: 0,
      responseCount: 0,
      executionCount: 0,
      firstAttemptAt: undefined,
      lastAttempt: undefined,
      previousResponse: undefined,
      running: false,
    }
    queue.tasks.set(name, stored)
    return this.shownTask(stored, request.responseView)
  }

  task(name: string | null | undefined): { readonly queue: StoredQueue; readonly task: StoredTask } {
    const queue = this.queue((name ?? "").replace(/\/tasks\/[^/]*$/, ""))
    const task = queue.tasks.get(name ?? "")
    if (task !== undefined) return { queue, task }
    const tombstone = queue.tombstones.get(name ?? "")
    // C21: the same status, another text.
    throw new Failed(
      status.NOT_FOUND,
      tombstone !== undefined && tombstone > this.now()
        ? "The task no longer exists, though a task with this name existed recently. The task either successfully completed or was deleted."
        : "Requested entity was not found.",
    )
  }

  /** C14: also one that is running. */
  deleteTask(name: string | null | undefined): void {
    const { queue, task } = this.task(name)
    this.bury(queue, task)
  }

  /** C15: in no order, a page at a time. */
  listTasks(request: {
    parent?: string | null
    pageSize?: number | null
    pageToken?: string | null
    responseView?: unknown
  }): { tasks: Array<ITask>; nextPageToken: string } {
    const queue = this.queue(request.parent)
    const now = this.now()
    const page = this.#pages.get(request.pageToken ?? "")
    if (request.pageToken && (page === undefined || page.at < now - 2 * hour)) throw invalid("Invalid page token.")
    const names = page?.rest ?? [...queue.tasks.keys()].sort()
    const size = Math.min(1000, request.pageSize || 1000)
    const rest = names.slice(size)
    const token = rest.length === 0 ? "" : `page-${++this.#count}`
    if (token !== "") this.#pages.set(token, { at: now, rest })
    const tasks = names.slice(0, size).flatMap((name) => queue.tasks.get(name) ?? [])
    return { tasks: tasks.map((task) => this.shownTask(task, request.responseView)), nextPageToken: token }
  }

  /** C15: the basic view hides the body. C18: what is told of attempts. */
  shownTask(task: StoredTask, view: unknown): ITask {
    const full = view === "FULL" || view === 2
    const { body, ...http } = task.http
    const last = task.lastAttempt
    return {
      name: task.name,
      httpRequest: full ? { ...http, ...(body && { body }) } : http,
      scheduleTime: timeOf(task.scheduleTime),
      createTime: timeOf(task.createTime),
      dispatchDeadline: timeOf(task.dispatchDeadline),
      dispatchCount: task.dispatchCount,
      responseCount: task.responseCount,
      ...(task.firstAttemptAt !== undefined && { firstAttempt: { dispatchTime: timeOf(task.firstAttemptAt) } }),
      ...(last !== undefined && {
        lastAttempt: {
          scheduleTime: timeOf(last.scheduleTime),
          dispatchTime: timeOf(last.dispatchTime),
          ...(last.responseTime !== undefined && {
            responseTime: timeOf(last.responseTime),
            responseStatus: { code: last.code ?? 0, message: last.message ?? "" },
          }),
        },
      }),
      view: full ? "FULL" : "BASIC",
    }
  }

  // ---- dispatching

  bury(queue: StoredQueue, task: StoredTask): void {
    queue.tasks.delete(task.name)
    queue.tombstones.set(task.name, this.now() + queue.tombstoneTtl)
  }

  #refill(queue: StoredQueue): void {
    const now = this.now()
    queue.tokens = Math.min(queue.burst, queue.tokens + ((now - queue.tokensAt) / 1000) * queue.rate)
    queue.tokensAt = now
  }

  /** C6: a task is deleted when it is too old, dispatched or not. */
  expire(): void {
    const now = this.now()
    for (const queue of this.queues.values()) {
      for (const task of [...queue.tasks.values()]) {
        if (task.createTime + queue.taskTtl > now || task.running) continue
        this.bury(queue, task)
        this.endings.push({ name: task.name, how: "expired", at: now })
      }
    }
  }

  /** The tasks that are dispatched now; they count as running from here on. */
  take(): ReadonlyArray<{ readonly queue: StoredQueue; readonly task: StoredTask }> {
    const now = this.now()
    const taken: Array<{ readonly queue: StoredQueue; readonly task: StoredTask }> = []
    this.expire()
    for (const queue of this.queues.values()) {
      this.#refill(queue)
      if (queue.state !== "RUNNING" || queue.throttledUntil > now) continue
      const due = [...queue.tasks.values()]
        .filter((task) => !task.running && task.scheduleTime <= now)
        .sort((a, b) => a.scheduleTime - b.scheduleTime)
      for (const task of due) {
        const running = [...queue.tasks.values()].filter((each) => each.running).length
        if (queue.tokens < 1 - 1e-9 || running >= queue.concurrent) break
        queue.tokens--
        this.begin(task)
        taken.push({ queue, task })
      }
    }
    return taken
  }

  begin(task: StoredTask): void {
    const now = this.now()
    task.running = true
    task.dispatchCount++
    task.firstAttemptAt ??= now
    task.lastAttempt = { scheduleTime: task.scheduleTime, dispatchTime: now }
  }

  /** When there may be something to dispatch, after now; `undefined`: not by waiting. */
  nextAt(): number | undefined {
    const now = this.now()
    let next: number | undefined
    for (const queue of this.queues.values()) {
      if (queue.state !== "RUNNING") continue
      const running = [...queue.tasks.values()].filter((each) => each.running).length
      if (running >= queue.concurrent) continue
      const tokenAt = queue.tokensAt + Math.max(0, ((1 - queue.tokens) / queue.rate) * 1000)
      for (const task of queue.tasks.values()) {
        if (task.running) continue
        const at = Math.ceil(Math.max(task.scheduleTime, tokenAt, queue.throttledUntil))
        if (at > now && (next === undefined || at < next)) next = at
      }
    }
    return next
  }

  /** What an answer does to its task. `undefined`: there was none. */
  answered(
    queue: StoredQueue,
    task: StoredTask,
    answer: { status: number; retryAfter: number | undefined } | undefined,
  ): void {
    const now = this.now()
    task.running = false
    queue.executed.push(now)
    if (task.lastAttempt !== undefined && answer !== undefined) {
      task.responseCount++
      task.lastAttempt.responseTime = now
      task.lastAttempt.code = codeOf(answer.status)
      task.lastAttempt.message = `HTTP status code ${answer.status}`
      task.previousResponse = answer.status
      // C20
      if (answer.status < 500) task.executionCount++
    } else if (task.lastAttempt !== undefined) {
      task.lastAttempt.responseTime = now
      task.lastAttempt.code = status.UNAVAILABLE
      task.lastAttempt.message = "no answer"
      task.previousResponse = undefined
    }
    // It was deleted while it was running.
    if (!queue.tasks.has(task.name)) return
    // C13
    if (answer !== undefined && answer.status >= 200 && answer.status < 300) {
      this.bury(queue, task)
      this.endings.push({ name: task.name, how: "succeeded", at: now })
      return
    }
    if (answer?.status === 429 || answer?.status === 503) queue.throttledUntil = now + 1000
    const retry = task.retry ?? queue.retry
    // C4: when both are reached; a duration of 0 is none.
    const attempts = retry.maxAttempts !== -1 && task.dispatchCount >= retry.maxAttempts
    const duration = retry.maxRetryDuration === 0 || now - (task.firstAttemptAt ?? now) >= retry.maxRetryDuration
    if (attempts && duration) {
      this.bury(queue, task)
      this.endings.push({ name: task.name, how: "exhausted", at: now })
      return
    }
    task.scheduleTime = now + Math.max(backoffOf(retry, task.dispatchCount), answer?.retryAfter ?? 0)
  }
}

/** Q82: doubling, then linear. */
const backoffOf = ({ maxBackoff, maxDoublings, minBackoff }: Retry, retry: number): number => {
  const doublings = Math.min(retry - 1, maxDoublings)
  return Math.min(maxBackoff, minBackoff * 2 ** doublings * Math.max(1, retry - doublings))
}

const retryOf = (given: IRetryConfig, base?: Retry): Retry => {
  const minBackoff = millisOf(given.minBackoff)
  const maxBackoff = millisOf(given.maxBackoff)
  const found: Retry = {
    maxAttempts: given.maxAttempts || (base?.maxAttempts ?? 100),
    maxRetryDuration: whole(millisOf(given.maxRetryDuration) ?? base?.maxRetryDuration ?? 0),
    minBackoff: minBackoff === undefined ? (base?.minBackoff ?? 100) : whole(minBackoff),
    maxBackoff: maxBackoff === undefined ? (base?.maxBackoff ?? hour) : whole(maxBackoff),
    maxDoublings: given.maxDoublings ?? base?.maxDoublings ?? 16,
  }
  // C21
  if (found.minBackoff > found.maxBackoff) throw invalid("min_backoff must not exceed max_backoff.")
  if (found.maxAttempts < -1 || found.maxDoublings < 0 || found.minBackoff < 0) throw invalid("negative value.")
  return found
}

/** google.rpc.Code of an HTTP status. */
const codeOf = (http: number): number => {
  const known: Record<number, number> = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    409: 10,
    429: 8,
    499: 1,
    500: 13,
    501: 12,
    503: 14,
    504: 4,
  }
  return http >= 200 && http < 300 ? 0 : (known[http] ?? 2)
}

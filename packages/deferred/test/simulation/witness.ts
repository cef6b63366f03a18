/**
 * Who was there: keeps its own books on every record from the calls that reached the driver, knows from them what the
 * driver must answer next, and says what it did instead. It looks at what a call touches, not at everything.
 */

import { type QueueLimits, type QueueStatistics, unlimited } from "@outlive/deferred/QueueLimits"
import type { TaskId } from "@outlive/deferred/TaskId"
import type * as TaskQueue from "@outlive/deferred/TaskQueue"
import type { Attempt, NewRecord, TaskRecord } from "@outlive/deferred/TaskRecord"

/** What must be so of a record by what was asked and answered until now. */
export interface Known {
  readonly id: TaskId
  readonly given: NewRecord
  /** The order of insertion. */
  readonly seq: number
  phase: "waiting" | "running" | "succeeded" | "cancelled" | "dead"
  eta: number
  token: number
  leaseUntil: number
  attempt: number
  crashes: number
  started: boolean
  /** By the true time. */
  claimedAt: number | undefined
  cancelRequested: boolean
  holdsKey: boolean
  reason: TaskRecord["reason"]
  expiresAt: number | undefined
  readonly ledger: Array<Attempt["outcome"]>
}

export class Broken extends Error {
  override readonly name = "Broken"
}

export class Witness {
  readonly records = new Map<TaskId, Known>()
  limits: QueueLimits = unlimited
  /** Milliseconds by which clocks differ at the most, and a call may be late. */
  slack: number
  private readonly running = new Set<Known>()
  private readonly waiting = new Set<Known>()
  /** How many attempts the rate allowed at the most, and when that was counted; by the true time. */
  private allowed: { readonly tokens: number; readonly at: number }

  constructor(options: { readonly slack: number; readonly now: number }) {
    this.slack = options.slack
    this.allowed = { tokens: this.full(), at: options.now }
  }

  get open(): ReadonlyArray<Known> {
    return [...this.running, ...this.waiting]
  }

  get(id: TaskId): Known {
    const known = this.records.get(id)
    if (known === undefined) throw new Broken(`somebody speaks of ${id}, which nobody stored`)
    return known
  }

  configured(changes: Partial<QueueLimits>, trueNow: number): void {
    this.limits = { ...this.limits, ...changes }
    this.allowed = { tokens: this.full(), at: trueNow }
  }

  enqueued(given: NewRecord, outcome: TaskQueue.EnqueueOutcome | undefined, now: number): void {
    const there = this.records.get(given.id) ?? this.holder(given)
    const right =
      there === undefined ? outcome?._tag === "Inserted" : outcome?._tag === "Existing" && outcome.id === there.id
    expect(right, () => `${given.id} was ${say(outcome)}, and there was ${there?.id}`)
    if (there !== undefined) return
    const known: Known = {
      id: given.id,
      given,
      seq: this.records.size,
      phase: "waiting",
      eta: Math.max(now, given.eta),
      token: 0,
      leaseUntil: 0,
      attempt: 0,
      crashes: 0,
      started: false,
      claimedAt: undefined,
      cancelRequested: false,
      holdsKey: given.unique !== undefined,
      reason: undefined,
      expiresAt: given.expiresAt,
      ledger: [],
    }
    this.records.set(known.id, known)
    this.waiting.add(known)
  }

  claimed(params: TaskQueue.ClaimParams, result: TaskQueue.ClaimResult, trueNow: number): void {
    const { now } = params
    this.takeBack(now)
    const limit = params.queues.reduce((sum, queue) => sum + queue.limit, 0)
    const free = this.limits.paused ? 0 : (this.limits.maxConcurrent ?? Number.POSITIVE_INFINITY) - this.running.size
    const due: Array<Known> = []
    for (const known of this.waiting) {
      const { target } = known.given
      if (known.eta <= now && (target === undefined || params.targets.includes(target))) due.push(known)
    }
    const most = Math.max(0, Math.min(limit, free, due.length))
    const got = result.records.length
    expect(
      this.limits.rate === undefined ? got === most : got <= most,
      () =>
        `a claim gave ${got} of ${due.length} due: ${free} slots were free (${say(this.limits)}), asked for ${limit}`,
    )
    due.sort((left, right) => this.order(left, right))
    result.records.forEach((record, index) => {
      const known = this.get(record.id)
      expect(known.phase === "waiting", () => `${record.id} was claimed while ${say(known)}`)
      expect(known.eta <= now, () => `${record.id} was claimed ${known.eta - now} ms before its time`)
      expect(due[index] === known, () => `${record.id} was claimed out of order: ${due[index]?.id} comes first`)
      expect(record.token > known.token, () => `${record.id} has token ${record.token} after ${known.token}`)
      this.waiting.delete(known)
      this.running.add(known)
      this.moves(known, "running")
      known.token = record.token
      known.leaseUntil = now + (known.given.lease ?? params.lease)
      known.attempt++
      known.started = true
      known.claimedAt = trueNow
      this.agrees(record, known, now)
    })
    this.began(got, trueNow)
  }

  extended(params: TaskQueue.ExtendParams, outcomes: ReadonlyArray<TaskQueue.ExtendOutcome>): void {
    params.leases.forEach((lease, index) => {
      const known = this.holding(lease)
      const due = known === undefined ? "LeaseLost" : known.cancelRequested ? "CancelRequested" : "Extended"
      expect(outcomes[index] === due, () => `extending ${say(lease)} gave ${outcomes[index]}, not ${due}`)
      if (known !== undefined) known.leaseUntil = params.until
    })
  }

  noted(lease: TaskQueue.Lease, outcome: TaskQueue.ProgressOutcome | undefined): void {
    const due = this.holding(lease) === undefined ? "LeaseLost" : "Recorded"
    expect(outcome === due, () => `progress of ${say(lease)} gave ${outcome}, not ${due}`)
  }

  settled(settlement: TaskQueue.Settlement, outcome: TaskQueue.SettleOutcome | undefined, now: number): void {
    const known = this.holding(settlement)
    const due = known === undefined ? "LeaseLost" : "Settled"
    expect(outcome === due, () => `${say(settlement)} gave ${outcome}, not ${due}`)
    if (known === undefined) return
    this.running.delete(known)
    known.ledger.push(settlement._tag)
    switch (settlement._tag) {
      case "Succeed":
        this.end(known, "succeeded")
        break
      case "Cancel":
        this.end(known, "cancelled")
        break
      case "Bury":
        this.end(known, "dead", settlement.reason)
        break
      case "Retry":
        this.waitAgain(known, settlement.eta, now)
        break
      case "Snooze":
        known.attempt--
        this.waitAgain(known, settlement.eta, now)
        break
      case "Release":
        known.attempt--
        this.waitAgain(known, now, now)
    }
  }

  cancelled(id: TaskId, outcome: TaskQueue.CancelOutcome | undefined): void {
    const known = this.get(id)
    const due = known.phase === "running" ? "Requested" : known.phase === "waiting" ? "Cancelled" : "TooLate"
    expect(outcome === due, () => `cancelling ${say(known)} gave ${outcome}, not ${due}`)
    if (due === "Requested") known.cancelRequested = true
    if (due === "Cancelled") this.end(known, "cancelled")
  }

  redriven(id: TaskId, outcome: TaskQueue.RedriveOutcome | undefined, now: number): void {
    const known = this.get(id)
    const due = known.phase === "dead" ? "Redriven" : "NotDead"
    expect(outcome === due, () => `redriving ${say(known)} gave ${outcome}, not ${due}`)
    if (due === "NotDead") return
    known.attempt = 0
    known.crashes = 0
    known.started = false
    known.cancelRequested = false
    known.expiresAt = undefined
    known.reason = undefined
    known.eta = now
    known.phase = "waiting"
    known.holdsKey ||= known.given.unique !== undefined && this.holder(known.given) === undefined
    this.waiting.add(known)
  }

  /** A record as the driver shows it is as it must be. */
  agrees(record: TaskRecord | undefined, known: Known, now: number): void {
    if (record === undefined) throw new Broken(`lost: ${say(known)}`)
    const state = known.phase === "waiting" ? (known.eta > now ? "scheduled" : "ready") : known.phase
    const same =
      record.state === state &&
      record.attempt === known.attempt &&
      record.crashes === known.crashes &&
      record.eta === known.eta &&
      record.reason === known.reason &&
      (known.phase !== "running" || record.leaseUntil === known.leaseUntil)
    expect(same, () => `at ${now} there is ${say(record)}, which must be ${say(known)}`)
  }

  /** What the queue says of itself is so. */
  counted(statistics: QueueStatistics): void {
    let oldest: number | undefined
    for (const { eta } of this.waiting) oldest = Math.min(oldest ?? eta, eta)
    const { inFlight, oldestEta, waiting } = statistics
    const same = waiting === this.waiting.size && inFlight === this.running.size && oldestEta === oldest
    expect(
      same,
      () => `${say(statistics)}, with ${this.waiting.size} waiting since ${oldest}, ${this.running.size} run`,
    )
  }

  /** The ledger has every attempt of a record. */
  wrote(known: Known, ledger: ReadonlyArray<Attempt> | undefined): void {
    const same =
      ledger?.length === known.ledger.length && ledger.every(({ outcome }, index) => outcome === known.ledger[index])
    expect(same, () => `the ledger has ${say(ledger)}, and must have ${say(known)}`)
  }

  private holding({ id, token }: TaskQueue.Lease): Known | undefined {
    const known = this.records.get(id)
    return known?.phase === "running" && known.token === token ? known : undefined
  }

  private holder({ task, unique }: NewRecord): Known | undefined {
    if (unique === undefined) return undefined
    for (const known of this.records.values()) {
      if (known.holdsKey && known.given.task === task && known.given.unique?.key === unique.key) return known
    }
    return undefined
  }

  /** By ageing, or: higher priority first, then eta, then insertion. */
  private order(left: Known, right: Known): number {
    const { ageing } = this.limits
    const byTime =
      ageing === undefined
        ? right.given.priority - left.given.priority || left.eta - right.eta
        : left.eta - left.given.priority * ageing - (right.eta - right.given.priority * ageing)
    return byTime || left.seq - right.seq
  }

  private takeBack(now: number): void {
    for (const known of this.running) {
      if (known.leaseUntil > now) continue
      this.running.delete(known)
      known.crashes++
      known.ledger.push("Crash")
      if (!known.cancelRequested && known.crashes > known.given.maxCrashes) this.end(known, "dead", "Crashed")
      else this.waitAgain(known, now, now)
    }
    for (const known of this.waiting) {
      if (known.expiresAt !== undefined && known.expiresAt <= now && !known.started) this.end(known, "dead", "Expired")
    }
  }

  private waitAgain(known: Known, eta: number, now: number): void {
    if (known.cancelRequested) this.end(known, "cancelled")
    else {
      this.moves(known, "waiting")
      known.eta = Math.max(now, eta)
      this.waiting.add(known)
    }
  }

  private end(known: Known, phase: "succeeded" | "cancelled" | "dead", reason?: TaskRecord["reason"]): void {
    this.waiting.delete(known)
    this.moves(known, phase)
    known.reason = reason
  }

  private moves(known: Known, phase: Known["phase"]): void {
    known.phase = phase
    if (known.given.unique?.while.includes(phase) !== true) known.holdsKey = false
  }

  /** More starts than the bucket can have held, however the clocks differ. */
  private began(count: number, trueNow: number): void {
    const { rate } = this.limits
    if (rate === undefined) return
    const { at, tokens } = this.allowed
    const left = Math.min(this.full(), tokens + ((trueNow - at) * rate) / 1000) - count
    expect(left >= 0, () => `${count} attempts began at once, ${-left} more than ${rate} a second allow`)
    this.allowed = { tokens: left, at: trueNow }
  }

  private full(): number {
    const { burst, rate } = this.limits
    return burst + ((rate ?? 0) * this.slack) / 1000 + 1e-6
  }
}

const say = (value: unknown): string => JSON.stringify(value)

const expect = (condition: boolean, sentence: () => string): void => {
  if (!condition) throw new Broken(sentence())
}

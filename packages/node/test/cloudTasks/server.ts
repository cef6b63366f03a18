/**
 * Google Cloud Tasks as far as its public protos and the recorded facts (C1-C23) say, in this process: gRPC on a real
 * socket, dispatch by the test's clock, delivery by real HTTP requests.
 */
import type { EventEmitter } from "node:events"
import { protos, v2beta3 } from "@google-cloud/tasks"
import * as grpc from "@grpc/grpc-js"
import { Context, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { deliver, makeSigner, type Signer } from "./deliver.ts"
import { Failed, State, types } from "./state.ts"

type Method = keyof typeof methods
const { Empty } = protos.google.protobuf

/** The calls of the service, each with the messages that go in and out. */
const methods = {
  ListQueues: [types.ListQueuesRequest, types.ListQueuesResponse],
  GetQueue: [types.GetQueueRequest, types.Queue],
  CreateQueue: [types.CreateQueueRequest, types.Queue],
  UpdateQueue: [types.UpdateQueueRequest, types.Queue],
  DeleteQueue: [types.DeleteQueueRequest, Empty],
  PurgeQueue: [types.PurgeQueueRequest, types.Queue],
  PauseQueue: [types.PauseQueueRequest, types.Queue],
  ResumeQueue: [types.ResumeQueueRequest, types.Queue],
  ListTasks: [types.ListTasksRequest, types.ListTasksResponse],
  GetTask: [types.GetTaskRequest, types.Task],
  CreateTask: [types.CreateTaskRequest, types.Task],
  DeleteTask: [types.DeleteTaskRequest, Empty],
  RunTask: [types.RunTaskRequest, types.Task],
} as const

interface Fault {
  readonly method: Method
  readonly status: number
  readonly message: string
  /** `after`: the call does what it is asked, and its answer is lost. `hang`: it never answers. */
  readonly when: "before" | "after" | "hang"
  times: number
}

export interface CloudTasks {
  readonly client: v2beta3.CloudTasksClient
  readonly state: State
  readonly signer: Signer
  /** Which calls came, in order. */
  readonly calls: Array<Method>
  /** How many calls their client ended before they were answered. */
  readonly cancelled: () => number
  /** The most calls that were under way at once. */
  readonly most: () => number
  readonly fail: (fault: Omit<Fault, "times" | "when" | "message"> & Partial<Fault>) => Effect.Effect<void>
  /** So many answers of endpoints are lost on their way, from now on. */
  readonly loseAnswers: (times: number) => Effect.Effect<void>
  /** Delivers what is due, and what becomes due in that time, one moment after the other. */
  readonly advance: (millis: number) => Effect.Effect<void>
  readonly createQueue: (id: string, settings?: protos.google.cloud.tasks.v2beta3.IQueue) => Effect.Effect<string>
}

export class CloudTasksServer extends Context.Service<CloudTasksServer, CloudTasks>()("test/CloudTasksServer") {}

export const project = "test-project"
export const location = "europe-west1"
const parent = `projects/${project}/locations/${location}`

export const make = Effect.gen(function* () {
  const clock = yield* TestClock.testClockWith(Effect.succeed)
  const now = () => clock.currentTimeMillisUnsafe()
  const state = new State(now)
  const signer = yield* makeSigner
  const faults: Array<Fault> = []
  const calls: Array<Method> = []
  const background = new Set<() => void>()
  let under = 0
  let most = 0
  let cancelled = 0
  let lost = 0

  // biome-ignore lint/suspicious/noExplicitAny: each request has a type of its own
  const answer = (method: Method, request: any): object => {
    switch (method) {
      case "ListQueues":
        return { queues: [...state.queues.values()].map((queue) => state.shown(queue, [])) }
      case "GetQueue":
        return state.shown(state.queue(request.name), request.readMask?.paths ?? [])
      case "CreateQueue":
        return state.createQueue(request)
      case "UpdateQueue":
        return state.updateQueue(request)
      case "DeleteQueue":
        state.deleteQueue(request.name)
        return {}
      case "PurgeQueue":
        return state.purge(request.name)
      case "PauseQueue":
        return state.setState(request.name, "PAUSED")
      case "ResumeQueue":
        return state.setState(request.name, "RUNNING")
      case "ListTasks":
        return state.listTasks(request)
      case "GetTask":
        return state.shownTask(state.task(request.name).task, request.responseView)
      case "CreateTask":
        return state.createTask(request)
      case "DeleteTask":
        state.deleteTask(request.name)
        return {}
      case "RunTask": {
        const { queue, task } = state.task(request.name)
        state.begin(task)
        background.add(() => run(dispatch(queue, task)))
        return state.shownTask(task, request.responseView)
      }
    }
  }

  const handle = (method: Method): grpc.handleUnaryCall<object, object> => {
    return (call, respond) => {
      calls.push(method)
      most = Math.max(most, ++under)
      const done: typeof respond = (error, value) => {
        // Answers come on a later turn, so that calls meet each other here.
        setImmediate(() => {
          under--
          respond(error, value)
        })
      }
      const fault = faults.find((each) => each.method === method && each.times > 0)
      if (fault !== undefined) fault.times--
      try {
        if (fault?.when === "hang") {
          ;(call as unknown as EventEmitter).on("cancelled", () => cancelled++)
          return
        }
        if (fault?.when === "before") throw new Failed(fault.status, fault.message)
        const value = answer(method, call.request)
        if (fault?.when === "after") throw new Failed(fault.status, fault.message)
        done(null, value)
      } catch (error) {
        if (!(error instanceof Failed)) throw error
        done({ code: error.code, details: error.message })
      }
    }
  }

  const definition: Record<string, grpc.MethodDefinition<object, object>> = {}
  const implementation: Record<string, grpc.UntypedHandleCall> = {}
  for (const [name, [input, output]] of Object.entries(methods)) {
    definition[name] = {
      path: `/google.cloud.tasks.v2beta3.CloudTasks/${name}`,
      requestStream: false,
      responseStream: false,
      requestSerialize: (value) => Buffer.from(input.encode(value).finish()),
      requestDeserialize: (bytes) => input.decode(bytes),
      responseSerialize: (value) => Buffer.from(output.encode(output.fromObject(value) as never).finish()),
      responseDeserialize: (bytes) => output.decode(bytes),
    }
    implementation[name] = handle(name as Method)
  }

  const server = yield* Effect.acquireRelease(
    Effect.sync(() => new grpc.Server({ "grpc.max_receive_message_length": 8 * 1024 * 1024 })),
    (each) => Effect.sync(() => each.forceShutdown()),
  )
  server.addService(definition as grpc.ServiceDefinition, implementation)
  const port = yield* Effect.callback<number>((resume) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      resume(error === null ? Effect.succeed(bound) : Effect.die(error)),
    )
  })
  const client = yield* Effect.acquireRelease(
    Effect.sync(
      () =>
        new v2beta3.CloudTasksClient({
          projectId: project,
          apiEndpoint: "127.0.0.1",
          port,
          sslCreds: grpc.credentials.createInsecure(),
          // Else it asks the machine's metadata server.
          clientOptions: { universeDomain: "googleapis.com" },
        }),
    ),
    (each) => Effect.promise(() => each.close()),
  )

  const dispatch = (queue: Parameters<State["answered"]>[0], task: Parameters<State["answered"]>[1]) =>
    Effect.map(deliver(signer, queue, task, now()), (said) => {
      state.answered(queue, task, lost > 0 ? undefined : said)
      if (lost > 0) lost--
    })
  const services = yield* Effect.context<never>()
  const run = (effect: Effect.Effect<void>) => void Effect.runForkWith(services)(effect)

  const advance = (millis: number) =>
    Effect.gen(function* () {
      const end = now() + millis
      while (true) {
        for (const start of background) start()
        background.clear()
        const taken = state.take()
        yield* Effect.forEach(taken, ({ queue, task }) => dispatch(queue, task), {
          concurrency: "unbounded",
          discard: true,
        })
        if (taken.length > 0) continue
        const next = state.nextAt()
        if (next === undefined || next > end) break
        yield* TestClock.setTime(next)
      }
      yield* TestClock.setTime(end)
      state.expire()
    })

  return CloudTasksServer.of({
    client,
    state,
    signer,
    calls,
    most: () => most,
    cancelled: () => cancelled,
    fail: (fault) => Effect.sync(() => void faults.push({ message: "made up", when: "before", times: 1, ...fault })),
    loseAnswers: (times) =>
      Effect.sync(() => {
        lost = times
      }),
    advance,
    createQueue: (id, settings) =>
      Effect.sync(() => {
        const name = `${parent}/queues/${id}`
        state.createQueue({ parent, queue: { ...settings, name } })
        return name
      }),
  })
})

export const layer = Layer.effect(CloudTasksServer, make)

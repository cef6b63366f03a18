/**
 * What belongs to the place and moment of a request or of a program rather than to an effect: a thread takes none of it
 * from its creator, but from the application's context, where its layer was built.
 */

import * as Clock from "effect/Clock"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"

const keys: ReadonlySet<string> = new Set(
  [
    // The request's: its trace, its scope, its log lines, its place in a retry or a plan.
    Tracer.ParentSpan,
    Scope.Scope,
    Layer.CurrentMemoMap,
    References.CurrentLogAnnotations,
    References.CurrentLogSpans,
    References.CurrentLogLevel,
    References.CurrentStackFrame,
    References.TracerSpanAnnotations,
    References.TracerSpanLinks,
    Tracer.DisablePropagation,
    Tracer.CurrentTraceLevel,
    Schedule.CurrentMetadata,
    Metric.CurrentMetricAttributes,
    // The application's: a request that changed one of them for itself changed it for itself.
    Clock.Clock,
    Random.Random,
    Console.Console,
    ConfigProvider.ConfigProvider,
    Tracer.Tracer,
    Tracer.MinimumTraceLevel,
    References.MinimumLogLevel,
    References.UnhandledLogLevel,
    References.CurrentLoggers,
    References.LogToStderr,
    References.TracerEnabled,
    References.TracerTimingEnabled,
    Metric.MetricRegistry,
    Metric.FiberRuntimeMetrics,
    Scheduler.Scheduler,
    Scheduler.MaxOpsBeforeYield,
    Scheduler.PreventSchedulerYield,
  ].map((key: { readonly key: string }) => key.key),
)

/** Services of modules that core does not import, by the beginning of their keys. */
const families: ReadonlyArray<string> = [
  // The place in a plan, and the application's reporters of errors.
  "effect/ExecutionPlan/CurrentMetadata",
  "effect/ErrorReporter/CurrentErrorReporters",
  // An open transaction, of memory, of a database or of an event log, its connection, and how transactions begin.
  "effect/Effect/Transaction",
  "effect/eventlog/EventLog/HandlerTransaction",
  "effect/eventlog/EventLog/CurrentStoreId",
  "effect/sql/SqlConnection",
  "effect/sql/SqlClient/TransactionConnection",
  "effect/sql/SqlClient/BeginTransaction",
  "effect/sql/CurrentTransactionService",
  "effect/cluster/MessageStorage/MemoryTransaction",
  // The request itself and its route.
  "effect/http/HttpServerRequest",
  "effect/http/HttpRouter/RouteContext",
  "effect/http/ParsedSearchParams",
  "effect/ai/McpSchema/McpRequestContext",
  "effect/ai/McpSchema/McpServerClient",
  "effect/rpc/RpcClient/CurrentHeaders",
  // The run of a workflow, an activity or an entity that the creator is.
  "effect/workflow/WorkflowEngine/WorkflowInstance",
  "effect/workflow/Activity/CurrentAttempt",
  "effect/cluster/Entity/",
  "effect/cluster/EntityResource/CloseScope",
  "effect/cluster/ClusterCron/CurrentScheduledTime",
]

export const isAmbient = (key: string): boolean => keys.has(key) || families.some((family) => key.startsWith(family))

/** The creator's services, with everything ambient from the application. */
export const detach = (
  creator: Context.Context<never>,
  application: Context.Context<never>,
): Context.Context<never> => {
  const services = new Map(application.mapUnsafe)
  services.delete(Scope.Scope.key)
  services.delete(Tracer.ParentSpan.key)
  for (const [key, service] of creator.mapUnsafe) if (!isAmbient(key)) services.set(key, service)
  return Context.makeUnsafe(services)
}

/**
 * The waiting records of a queue in runs, as parts of statements: those of one task, target, version and priority, which
 * the same workers may claim and which the index has in the order of their etas. Records with a key are in runs of their key,
 * see `turnsSql`; these are of those without one.
 *
 * An index of Postgres keeps the entries of what was claimed until a vacuum comes by. They are at the heads of the runs, and
 * to find a head is to walk over them: nothing for thousands, milliseconds for hundreds of thousands. So what is known of the
 * heads is given on, and a walk begins where the last one ended.
 */
/** A list of runs, each with the eta and the place of its first record, or of one before that. */
export const runTypes = [
  ["task", "text"],
  ["target", "text"],
  ["version", "double precision"],
  ["rank", "double precision"],
  ["eta", "double precision"],
  ["seq", "bigint"],
] as const

export const runColumns = runTypes.map(([name, type]) => `${name} ${type}`).join(", ")
export const runNames = runTypes.map(([name]) => name)
/** The lists as parameters or as variables, called so. */
export const runLists = (prefix: string): ReadonlyArray<string> =>
  runTypes.map(([name, type]) => `${prefix}${name} ${type}[]`)
/** The runs of such lists. */
export const unnestRuns = (prefix: string): string =>
  `unnest(${runNames.map((name) => `${prefix}${name}`).join(", ")}) AS run (${runNames.join(", ")})`

/** A target as the indexes of what has a key have it: equal when both have none, too. */
export const mark = (of: string): string => `(coalesce('=' || ${of}target, ''))`

/** The records of a run that are not before its known head. `of` says where each part of the run stands. */
export const inRun = (
  schema: string,
  queue = "p_queue",
  of = (part: string) => `run.${part}`,
): string => `${schema}.records r
      WHERE r.state = 0 AND r.key IS NULL AND r.queue = ${queue} AND r.task = ${of("task")}
        AND coalesce(r.target, '') = coalesce(${of("target")}, '') AND r.version = ${of("version")}
        AND -r.priority = ${of("rank")} AND (r.eta, r.seq) >= (${of("eta")}, ${of("seq")})
        AND r.target IS NOT DISTINCT FROM ${of("target")}`

/** The head of the first run of what a claim wants: a task, up to a version, for a target. */
export const firstOf = (
  schema: string,
  queue: string,
  of: (part: "task" | "target" | "max_version") => string,
  into: string,
  and?: string,
): string => `SELECT r.version, -r.priority AS rank, r.eta, r.seq ${into} FROM ${schema}.records r
          WHERE r.state = 0 AND r.key IS NULL AND r.queue = ${queue} AND r.task = ${of("task")}
            AND coalesce(r.target, '') = coalesce(${of("target")}, '') AND r.version <= ${of("max_version")}
            ${and === undefined ? "" : `AND ${and}`}
          ORDER BY r.version, -r.priority, r.eta, r.seq LIMIT 1`

/**
 * The runs of a queue that a claim allows, found by seeking from one to the next, as what a SELECT reads from. This and `headsOf`
 * are no functions: to call one takes longer than they do.
 */
export const runsOf = (schema: string, queue: string): string => {
  const first = (of: string, and?: string) => firstOf(schema, queue, (part) => `${of}.${part}`, "", and)
  return `(
        WITH RECURSIVE wanted AS (
          SELECT task, max(max_version) AS max_version, target
          FROM unnest(p_tasks, p_versions) AS known (task, max_version)
            CROSS JOIN (SELECT NULL AS target UNION SELECT unnest(p_targets)) AS targets
          GROUP BY task, target
        ),
        run AS (
          SELECT wanted.*, first.* FROM wanted CROSS JOIN LATERAL (
          ${first("wanted")}
          ) first
          UNION ALL
          SELECT run.task, run.max_version, run.target, following.* FROM run CROSS JOIN LATERAL (
          ${first("run", "(r.version, -r.priority) > (run.version, run.rank)")}
          ) following
        )
        SELECT ${runNames.map((name) => `run.${name}`).join(", ")} FROM run
      ) AS run`
}

/** Those of the given runs that there still are, with their heads. */
export const headsOf = (schema: string, queue: string, prefix: string): string => `(
        SELECT run.task, run.target, run.version, run.rank, head.eta, head.seq FROM ${unnestRuns(prefix)} CROSS JOIN LATERAL (
          SELECT r.eta, r.seq FROM ${inRun(schema, queue)} ORDER BY r.eta, r.seq LIMIT 1
        ) head
      ) AS run`

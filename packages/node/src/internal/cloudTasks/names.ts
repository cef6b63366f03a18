/**
 * Where a record is in Cloud Tasks. Its id tells: so whoever has the id finds the task, in any process, without a list of
 * what is where.
 *
 * Cloud Tasks wants task ids that are spread evenly (C2), and ids of records begin with the time. A record without a name
 * is the task `<random end of its id>-<the rest of its id>`. A record with a name is a task whose id is a digest of the
 * queue and the name, so that Cloud Tasks sees when a name comes twice; the same digest stands in the record's id, behind its time.
 */
import { createHash } from "node:crypto"
import type { TaskId } from "@outlive/deferred/TaskId"

/** Project, location, and the Cloud Tasks queue of each queue. */
export interface Place {
  readonly project: string
  readonly location: string
  readonly queues: Readonly<Record<string, string>>
}

export const queuePath = ({ location, project }: Place, queue: string): string =>
  `projects/${project}/locations/${location}/queues/${queue}`

export const taskPath = (place: Place, queue: string, task: string): string =>
  `${queuePath(place, queue)}/tasks/${task}`

/** Cloud Tasks' queue ids (C2). */
export const queueIdPattern = /^[A-Za-z0-9-]{1,100}$/

/**
 * The id that a record with a name has: its own time, and 74 bits of a digest. The queue is in it, as names are of a queue:
 * so no two records have one id, and queues can share one of Cloud Tasks.
 */
export const namedId = (id: TaskId, queue: string, name: string): TaskId => {
  const digest = createHash("sha256").update(`${queue}\n${name}`).digest("hex")
  const variant = (8 | (Number.parseInt(digest.slice(3, 4), 16) & 3)).toString(16)
  return `${id.slice(0, 15)}${digest.slice(0, 3)}-${variant}${digest.slice(4, 7)}-${digest.slice(7, 19)}` as TaskId
}

/** The task of a record without a name. */
export const unnamedTask = (id: TaskId): string => `${id.slice(-8)}-${id.slice(0, -8)}`

/** The task of a record with a name: what of its id comes from the name. */
export const namedTask = (id: TaskId): string => `${id.slice(15, 18)}${id.slice(19, 23)}${id.slice(24)}-n`

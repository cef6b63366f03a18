/**
 * What a schema has for records that wait for others, from its second version on: for their members, or for the holder of
 * their unique key. Such a record is held back: its eta is infinite, and `wanted_eta` is what it will have.
 */

/** How `joins.on_failure` and `joins.then_what` say it. */
export const OnFailure = { continue: 0, cancelSiblings: 1, cancel: 2 } as const
export const Then = { run: 0, end: 1 } as const

/** The bit of `records.unique_while` of those that something may follow: what took, or takes, their unique key's place. */
export const followable = 32

/** How the members of a join ended, as `joined` has it. */
export const tally = (join: string): string =>
  `ARRAY[${["total", "on_failure", "then_what", "succeeded", "cancelled", "dead"].map((name) => `${join}.${name}`).join(", ")}]::integer[]`

export const joinTables = (schema: string): ReadonlyArray<string> => [
  // `joined`: how the members of a record had ended when it was held back no longer, and before that how none of them had.
  // `due_by`: when what takes its place must be due at the latest.
  `ALTER TABLE ${schema}.records
    ADD COLUMN wanted_eta double precision,
    ADD COLUMN due_by double precision,
    ADD COLUMN member_of uuid,
    ADD COLUMN follows uuid,
    ADD COLUMN joined integer[]`,
  `CREATE INDEX members ON ${schema}.records (member_of, seq) WHERE member_of IS NOT NULL`,
  `CREATE UNIQUE INDEX following ON ${schema}.records (follows) WHERE follows IS NOT NULL`,
  // How the members of those that are held back have ended: apart, since each end is written here. All lock them by depth,
  // which is 0 for one that is nobody's member, the deepest first, then by id; after the records of members, and before their own.
  `CREATE TABLE ${schema}.joins (
    id uuid PRIMARY KEY,
    total integer NOT NULL,
    succeeded integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    dead integer NOT NULL DEFAULT 0,
    depth integer NOT NULL,
    on_failure smallint NOT NULL,
    then_what smallint NOT NULL
  ) WITH (fillfactor = 50)`,
  // From when on a record of a task and key may come, which spaces them.
  `CREATE TABLE ${schema}.spacings (
    task text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    until double precision NOT NULL,
    PRIMARY KEY (task, key)
  ) WITH (fillfactor = 70)`,
  `CREATE INDEX spaced ON ${schema}.spacings (until)`,
  // What comes of a call, while it follows up on what ended: what is told; records that ended and may be followed; how
  // members ended, for whom, and what they hand over; and whose members are to be cancelled, why, and from which place on.
  `CREATE TYPE ${schema}.ends AS (
    waiting text[],
    ended uuid[],
    cancelling uuid[],
    progressed uuid[],
    freed uuid[],
    joins uuid[],
    hows smallint[],
    hands text[],
    parents uuid[],
    reasons text[],
    places bigint[]
  )`,
]

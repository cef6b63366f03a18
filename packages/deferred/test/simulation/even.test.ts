/**
 * `OUTLIVE_SEED=123 pnpm test packages/deferred/test/simulation` replays one seed; `OUTLIVE_SEEDS=50000` runs more.
 */
import { describe } from "@effect/vitest"
import { storms } from "./seeds.ts"

describe("workers in a storm, even seeds", () => storms(0))

import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["packages/*/test/**/*.test.ts", "examples/**/*.test.ts", "scripts/**/*.test.ts"],
    setupFiles: ["scripts/chance.ts"],
    testTimeout: 30_000,
    // The default leaves one processor out, which is half of a machine with two.
    maxWorkers: "100%",
  },
})

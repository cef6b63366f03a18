/**
 * Hosts that freeze or end a process once its request is answered, by the environment variables that they document.
 */
import type { Host } from "@outlive/core/Instance"

export type Environment = Readonly<Record<string, string | undefined>>

interface Frontend extends Host {
  readonly recognises: (env: Environment) => boolean
}

const has = (env: Environment, name: string): boolean => env[name] !== undefined && env[name] !== ""
const keep = "If this instance does keep its CPU, say so: set OUTLIVE_INSTANCE=backend."

/** In the order of asking: some run on top of others and set the other's variables too. */
const frontends: ReadonlyArray<Frontend> = [
  {
    name: "Vercel",
    hint: "Carry the work on with waitUntil of @vercel/functions, or have tasks delivered to a route as requests.",
    recognises: (env) => env.VERCEL === "1",
  },
  {
    name: "Netlify",
    hint: "Use a background function or context.waitUntil, or have tasks delivered to a function as requests.",
    recognises: (env) => has(env, "NETLIFY") || (has(env, "SITE_ID") && has(env, "AWS_LAMBDA_FUNCTION_NAME")),
  },
  {
    name: "AWS Lambda",
    hint: "Finish the work before answering, or run it where a process lives on (ECS, EC2, Fargate); deliver tasks to this function as requests.",
    recognises: (env) => has(env, "AWS_LAMBDA_FUNCTION_NAME"),
  },
  {
    name: "Azure Functions",
    hint: "Use a Durable Function or an App Service with Always On, or have tasks delivered to this function as requests.",
    recognises: (env) => has(env, "FUNCTIONS_WORKER_RUNTIME"),
  },
  {
    name: "Cloud Functions",
    hint: "Run the work in a Cloud Run service with instance-based billing, or have tasks delivered to this function as requests.",
    // Both generations; the second runs on Cloud Run and has its variables too.
    recognises: (env) => has(env, "FUNCTION_TARGET") && (has(env, "K_SERVICE") || has(env, "FUNCTION_SIGNATURE_TYPE")),
  },
  {
    name: "Cloud Run with request-based CPU",
    hint: `Choose instance-based billing (CPU always allocated) or a worker pool, or have tasks delivered as requests. ${keep}`,
    // A job or a worker pool has no K_SERVICE.
    recognises: (env) => has(env, "K_SERVICE") && has(env, "K_REVISION"),
  },
  {
    name: "App Engine with automatic scaling",
    hint: `Choose manual or basic scaling, or have tasks delivered as requests. ${keep}`,
    recognises: (env) => env.GAE_ENV === "standard",
  },
]

/** The frontend host that this environment is, or none. */
export const detectFrontend = (env: Environment): Host | undefined => {
  const found = frontends.find((frontend) => frontend.recognises(env))
  return found === undefined ? undefined : { name: found.name, hint: found.hint }
}

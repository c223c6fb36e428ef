// The parameters of an operation as a JSON Schema, for doors that speak JSON. It is made of the one declaration that also
// makes the flags and the check, so what it allows is what `checkInput` takes.
import { wireName, type Param, type Params } from "./params.ts";

export type JsonSchema = { readonly [keyword: string]: unknown };

/** The schema of an input: one property a parameter, under its name in JSON, nothing else allowed. `skip` leaves parameters out. */
export function inputSchema(params: Params, skip: (param: Param) => boolean = () => false): JsonSchema {
  const shown = Object.entries(params).filter(([, param]) => !skip(param));
  const properties = Object.fromEntries(shown.map(([name, param]) => [wireName(name, param), { ...typeOf(param), description: param.summary }]));
  const required = shown.filter(([, param]) => param.required).map(([name, param]) => wireName(name, param));
  return { type: "object", properties, ...(required.length === 0 ? {} : { required }), additionalProperties: false };
}

function typeOf(param: Param): JsonSchema {
  switch (param.type) {
    case "text":
      return { type: "string", ...(param.choices ? { enum: param.choices } : {}) };
    case "time":
      return { type: "string", format: "date-time" };
    case "integer":
    case "duration":
      return { type: "integer", ...(param.min === undefined ? {} : { minimum: param.min }) };
    case "number":
      return { type: "number", ...(param.min === undefined ? {} : { minimum: param.min }) };
    case "ref":
      return { type: ["integer", "string"] };
    case "boolean":
      return { type: "boolean" };
    case "texts":
      return { type: "array", items: { type: "string" } };
    case "refs":
      return { type: "array", items: { type: ["integer", "string"] } };
    case "json":
      return {};
  }
}

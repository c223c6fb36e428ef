// Where the dashboard begins.
import { render } from "preact";
import { hasToken, takeToken } from "./api.ts";
import { App } from "./app.tsx";
import { follow } from "./live.ts";
import { followLinks } from "./route.ts";

takeToken();
followLinks();
if (hasToken()) follow();
render(<App />, document.getElementById("app")!);

// node draw.mjs ANSWERS FOLDER: a picture of each dashboard in FOLDER, of the answers a run recorded.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const BOARDS = join(HERE, "../../../deploy/grafana/dashboards");
const ROW = 38;
const TOP = 56;
const [answers, folder] = process.argv.slice(2);
const recorded = JSON.parse(readFileSync(answers, "utf8"));
const work = mkdtempSync(join(tmpdir(), "opentobuy-preview-"));

// Grafana's .mjs files import some CommonJS packages in a way that only its own build tool understands.
const alias = Object.fromEntries(
  ["data", "i18n", "schema", "ui"].map((name) => [`@grafana/${name}`, join(HERE, `node_modules/@grafana/${name}/dist/cjs/index.cjs`)])
);
await build({
  entryPoints: [join(HERE, "page.jsx")], outfile: join(work, "page.js"), bundle: true, jsx: "automatic", minify: true,
  alias, logLevel: "error", define: { "process.env.NODE_ENV": '"production"', global: "window" },
  loader: { ".svg": "text", ".png": "empty", ".ttf": "empty" },
});
mkdirSync(folder, { recursive: true });
let failed = 0;
for (const name of readdirSync(BOARDS, { recursive: true }).filter((path) => path.endsWith(".json")).sort()) {
  const board = JSON.parse(readFileSync(join(BOARDS, name), "utf8"));
  failed += draw(board, join(folder, `${board.uid}.png`));
}
rmSync(work, { recursive: true });
process.exit(failed ? 1 : 0);

function draw(board, picture) {
  const rows = Math.max(...board.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  const given = { board, recorded: { ...recorded, boards: { [board.uid]: recorded.boards[board.uid] } }, mode: "light" };
  const text = JSON.stringify(given).replaceAll("<", "\\u003c");
  const style = `body { margin: 0; overflow: hidden } #root { position: relative; margin: ${TOP}px 12px 12px }`;
  writeFileSync(join(work, "page.html"), `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css"><style>${style}</style><div id="root"></div>
<script>window.preview = ${text}</script><script src="page.js"></script>`);
  const { stderr, status, error } = spawnSync(process.env.CHROMIUM ?? "chromium", [
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files", "--enable-logging=stderr",
    `--user-data-dir=${join(work, "profile")}`, `--window-size=1624,${rows * ROW + TOP + 12}`, "--virtual-time-budget=15000",
    `--screenshot=${picture}`, pathToFileURL(join(work, "page.html")).href,
  ], { encoding: "utf8", timeout: 180_000 });
  const wrong = (stderr ?? "").split("\n").filter((line) => /undrawn|Uncaught/.test(line));
  wrong.forEach((line) => console.error(line));
  if (error || status) console.error(`${board.uid}: ${error ?? stderr}`);
  else console.log(picture);
  return wrong.length + (error || status ? 1 : 0);
}

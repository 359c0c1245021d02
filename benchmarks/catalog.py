"""Every benchmark of the project, declared once.

To add a benchmark, write a function that measures once and returns samples by key, and declare it here. The command
line, the table, the plot, the history and the regression rule read this list.
"""

from __future__ import annotations

from functools import partial

from benchmarks import (
    aggregation,
    broker_pause,
    coordinator_memory,
    custom_resources,
    dataset_indexes,
    echo,
    edge_accounts,
    enrolment,
    fleet,
    hostile,
    hot_swap,
    inference_calls,
    labelling,
    learning_start,
    node_rates,
    one_port,
    reconnecting,
    recorded_rows,
    requests,
    simulated,
    small_gateway,
    startup,
    thin_links,
    tls_cost,
    traces,
    unplugged_edges,
)
from benchmarks.declaration import Benchmark, Metric
from benchmarks.peers.frameworks import SIZES, contestants, round_metrics

_ALL = [
    Benchmark("up", "start", startup.cluster, repeats=5, metrics=(
        Metric("up", "start of a cluster with three edges", "s", 3),
        Metric("agent", "start of an agent", "s", 0.5),
        Metric("idle", "idle agent, resident memory", "MB", 48),
    )),
    Benchmark("enrolment", "start", enrolment.run, repeats=3, metrics=(
        Metric("enroll", "heliograph enroll", "s", 2),
        Metric("online", "enrolled agent: start to online", "s", 2),
    )),
    Benchmark("operator", "kubernetes", custom_resources.run, repeats=3, metrics=(
        Metric("burst", "500 custom resources, until reconciled", "s", 8),
        Metric("delete", "500 custom resources, until deleted", "s"),
        Metric("idle", "idle coordinator with an operator", "MB", 120),
    )),
    Benchmark("confinement", "start", startup.confined, repeats=1, metrics=(
        Metric("cost", "confinement adds to a worker's start", "ms", 30, statistic="p50", name="p50"),
        Metric("open", "an unconfined start that does nothing", "ms", statistic="p50", name="open-p50"),
    )),
    Benchmark("command-help", "start", partial(startup.command, "--help"), repeats=10, metrics=(
        Metric("run", "heliograph --help", "ms", 250),
    )),
    Benchmark("command-topics", "start", partial(startup.command, "topics"), repeats=10, metrics=(
        Metric("run", "heliograph topics", "ms", 250),
    )),
    Benchmark("sum", "sum", aggregation.run, repeats=2, metrics=(
        Metric("aggregate", "aggregation alone, 16 × 25 M float32", "s", 0.4),
        Metric("copy", "copying 1 GB in memory", "s"),
        Metric("ratio", "aggregation / copying as many bytes", "×", 3),
    )),
    Benchmark("node-append", "node", node_rates.append, metrics=(
        Metric("rate", "events into the journal", "/s", 20_000, "higher"),
        Metric("more", "memory growth, a million events queued", "MB", 10, slack=2),
    )),
    Benchmark("node-worker", "node", node_rates.worker, repeats=5, metrics=(
        Metric("rate", "worker's events through broker to disk", "/s", 4000, "higher"),
    )),
    Benchmark("node-replay", "node", node_rates.replay, repeats=5, metrics=(
        Metric("rate", "replay of the journal into JetStream", "/s", 20_000, "higher"),
        Metric("more", "memory growth during the replay", "MB", 10, slack=2),
    )),
    Benchmark("node-blobs", "node", node_rates.blobs, repeats=5, metrics=(
        Metric("put", "blob of 100 MB into its bucket", "MB/s", 100, "higher"),
        Metric("fetch", "blob of 100 MB from its bucket", "MB/s", 100, "higher"),
        Metric("to-edge", "blob of 100 MB, cloud to edge", "MB/s", 100, "higher"),
        Metric("from-edge", "blob of 100 MB, edge's disk to cloud", "MB/s", 100, "higher"),
    )),
    Benchmark("index-rows", "datasets", dataset_indexes.rows, metrics=(
        Metric("resident", "agent that indexes 1,000,000 csv rows", "MB", 60),
        Metric("seconds", "1,000,000 csv rows, until the index", "s"),
        Metric("stop", "end of an agent that is reading", "s", 2),
    )),
    Benchmark("index-images", "datasets", dataset_indexes.images, metrics=(
        Metric("resident", "agent that indexes 20,000 images", "MB", 60),
        Metric("seconds", "20,000 images, until the index", "s"),
        Metric("again", "the same after the agent's restart", "s"),
    )),
    Benchmark("recorded-rows", "datasets", recorded_rows.run, metrics=(
        Metric("record", "rows of devices' messages onto the disk", "/s", 5000, "higher"),
        Metric("read", "recorded rows, read as arrays", "/s", 100_000, "higher"),
        Metric("version", "version of 100,000 recorded rows", "s", 1),
        Metric("disk", "recorded rows on the disk / their quota", "×", 1, statistic="max"),
        Metric("more", "recorder's memory growth, 200,000 rows", "MB", 10, slack=2),
    )),
    Benchmark("presence", "presence", unplugged_edges.seen, repeats=3, metrics=(
        Metric("offline", "unplugged edge seen offline, slowest", "s", 3, statistic="max"),
        Metric("back", "unplugged edge seen back, slowest", "s", 1, statistic="max"),
    )),
    Benchmark("reconnecting", "reconnecting", reconnecting.measured, repeats=1, metrics=(
        Metric("seconds", "1,000 agents, until the last is back", "s", 15),
        Metric("median", "1,000 agents, until half are back", "s"),
        Metric("cpu", "broker's CPU until all are back", "s"),
        Metric("memory", "broker's memory then", "MB"),
        Metric("attempts", "attempts of an agent in 8 s", "", 12),
        Metric("busiest", "agents that try in one tenth of a second", "×", 0.2),
        Metric("missing", "agents that did not come back", "", 0),
        Metric("lost", "acknowledged events that are lost", "", 0),
        Metric("doubled", "events that are stored twice", "", 0),
    )),
    Benchmark("thin-links", "links", thin_links.measured, repeats=1, timeout=1200, metrics=(
        *(Metric(f"{each.name} time", f"{each.name}: time", "×", thin_links.SLOWEST)
          for each in thin_links.LINKS),
        *(Metric(f"{each.name} bytes", f"{each.name}: bytes", "×", thin_links.MOST_BYTES)
          for each in thin_links.LINKS),
        Metric("lost", "events or blobs that are lost on them", "", 0),
        Metric("doubled", "events that are stored twice", "", 0),
        Metric("ended", "connections that end on them", "", 0),
    )),
    Benchmark("broker-pause", "cluster", broker_pause.pauses, repeats=2, metrics=(
        Metric("pause", "rounds' pause, one of 3 brokers killed", "s", broker_pause.GOAL, name="pause",
               known=broker_pause.CAUSE),
        Metric("pause", "the longest of three such pauses", "s", statistic="max", name="longest pause"),
        Metric("usual", "from round to round before", "s", statistic="p50", name="usual"),
    )),
    Benchmark("accounts", "accounts", edge_accounts.connected, repeats=1, metrics=(
        *(Metric(f"{name} {size}", f"{size} edges, {title}", unit)
          for name, title, unit in (("memory", "broker's memory", "MB"), ("seconds", "until all have connected", "s"),
                                    ("cpu", "broker's CPU for that", "s"), ("start", "broker's start", "s"))
          for size in edge_accounts.SIZES),
        Metric("growth", "memory of an edge, 501-1000 over 251-500", "×", 1.25),
        Metric("cpu growth", "CPU of an edge, 501-1000 over 251-500", "×", 2),
    )),
    Benchmark("inference", "inference", inference_calls.calls, metrics=(
        Metric("application", "inference, application, p50", "ms", 2, statistic="p50", name="application p50"),
        Metric("application", "inference, application, p99", "ms", 5, statistic="p99", name="application p99"),
        Metric("device, edge", "inference, device, edge, p50", "ms", 1, statistic="p50", name="edge p50"),
        Metric("device, edge", "inference, device, edge, p99", "ms", 4, statistic="p99", name="edge p99"),
        Metric("device, offloaded", "inference, device, offload, p50", "ms", 3, statistic="p50", name="offloaded p50"),
        Metric("device, offloaded", "inference, device, offload, p99", "ms", 7, statistic="p99", name="offloaded p99"),
        Metric("frame", "inference, 1920 × 1080 frame offloaded", "ms", 60, name="frame"),
        Metric("frame bytes", "offloaded frame on the wire", "MB", 6.3, name="frame bytes"),
        Metric("rate, edge", "answers by one edge", "/s", 2500, "higher", name="edge rate"),
        Metric("rate, offloaded", "offloads by one edge", "/s", 1000, "higher", name="offloaded rate"),
    )),
    Benchmark("tls-rounds", "tls", tls_cost.rounds, repeats=1, metrics=(
        Metric("ratio", "1 MB × 4 echo round, TLS / clear text", "×", 1.15, name="ratio"),
        Metric("tls", "1 MB × 4 echo round by TLS", "ms", statistic="p50", name="tls"),
        Metric("plain", "1 MB × 4 echo round in clear text", "ms", statistic="p50", name="plain"),
    )),
    Benchmark("tls-offload", "tls", tls_cost.offloads, repeats=1, metrics=(
        Metric("ratio", "offload p50, TLS / clear text", "×", 1.15, name="ratio"),
        Metric("tls", "offload by TLS", "ms", statistic="p50", name="tls"),
        Metric("plain", "offload in clear text", "ms", statistic="p50", name="plain"),
    )),
    Benchmark("small-gateway", "inference", small_gateway.memory, repeats=3, metrics=(
        Metric("all", "agent, node's broker and a NumPy worker", "MB", 160),
        Metric("agent", "of it the agent", "MB"),
        Metric("worker", "of it the worker", "MB"),
        Metric("broker", "of it the broker", "MB"),
    )),
    Benchmark("websocket", "nats", one_port.cost, repeats=1, metrics=(
        Metric("events", "10,000 events, WebSocket / NATS", "×", 1.5),
        Metric("blob", "100 MB there and back, WebSocket / NATS", "×", 2),
        Metric("events/s", "events of 1 kB by WebSocket", "/s", better="higher"),
        Metric("blob MB/s", "blob by WebSocket", "MB/s", better="higher"),
    )),
    Benchmark("hot-swap", "inference", hot_swap.swaps, repeats=2, metrics=(
        Metric("swap", "10 MB swapped under load, after arrival", "ms", 200, statistic="max"),
        Metric("rate", "requests during the swaps", "/s", 490, "higher"),
        Metric("lost", "requests without an answer", "", 0),
        Metric("wrong", "answers not by the version they name", "", 0),
    )),
    Benchmark("labelling", "labelling", labelling.labelling, repeats=3, metrics=(
        Metric("queued", "1,000 hard samples, captured to queued", "s", 2),
        Metric("label", "label, submitted to heard, p50", "ms", 5, statistic="p50", name="label p50"),
        Metric("label", "label, submitted to heard, p99", "ms", statistic="p99", name="label p99"),
    )),
    Benchmark("learning-start", "labelling", learning_start.starts, repeats=2, metrics=(
        Metric("cold", "label to first step, new worker", "ms", 1000, statistic="max",
               name="new worker"),
        Metric("warm", "label to first step, ready worker", "ms", 1000, statistic="max",
               name="ready worker"),
    )),
    Benchmark("hostile", "hostile", hostile.flood, repeats=1, metrics=(
        Metric("get", "another's get in a flood, p50", "ms", statistic="p50", name="p50"),
        Metric("get", "another's get in a flood, p99", "ms", 50, statistic="p99", name="p99"),
        Metric("lost", "its requests without an answer", "", 0),
        Metric("leases", "leases lost by the coordinator", "", 0),
        Metric("sent", "hostile requests", "", better="higher"),
        Metric("answered", "hostile requests that succeeded", ""),
        Metric("refused", "hostile requests that were refused", ""),
    )),
    Benchmark("requests-list", "requests", requests.lists, repeats=1, metrics=(
        Metric("list", "1,000 jobs listed, p50", "ms", 150, statistic="p50", name="p50"),
    )),
    Benchmark("requests-get", "requests", requests.gets, repeats=2, metrics=(
        Metric("rate", "resources got by 16 callers", "/s", 2000, "higher"),
        Metric("lost", "gets without a right answer", "", 0),
    )),
    Benchmark("coordinator-memory", "requests", coordinator_memory.edges, repeats=1, timeout=600, metrics=(
        Metric("memory", "coordinator, 10,000 edges, memory", "MB", 300),
        Metric("first", "coordinator, no edges, memory", "MB"),
        Metric("seconds", "10,000 edges connected until all shown", "s"),
    )),
    Benchmark("echo-1kb", "echo", partial(echo.rounds, edges=2, size=1000, rounds=400), metrics=(
        Metric("round", "echo round, 1 kB × 2, p50", "ms", 15, statistic="p50", name="p50"),
        Metric("round", "echo round, 1 kB × 2, p99", "ms", 40, statistic="p99", name="p99"),
    )),
    Benchmark("echo-1mb", "echo-1mb", partial(echo.rounds, edges=4, size=SIZES["1 MB"], rounds=40),
              round_metrics("1 MB", target=60)),
    Benchmark("echo-10mb", "echo-10mb", partial(echo.rounds, edges=4, size=SIZES["10 MB"], rounds=20),
              round_metrics("10 MB", target=250)),
    Benchmark("echo-100mb", "echo-100mb", partial(echo.rounds, edges=4, size=SIZES["100 MB"], rounds=8),
              round_metrics("100 MB", target=2500, aggregating=350)),
    Benchmark("trace-record", "traces", partial(traces.measured, "record"), metrics=(
        Metric("messages/s", "stream's messages recorded live", "/s", 20_000, "higher", name="rate"),
        Metric("dropped", "stream's messages not recorded", "", 0),
    )),
    Benchmark("trace-passing", "traces", partial(traces.measured, "passing"), metrics=(
        Metric("messages/s", "unstored messages recorded live", "/s", 20_000, "higher", name="rate"),
        Metric("dropped", "unstored messages not recorded", "", 0),
    )),
    Benchmark("trace-file", "traces", partial(traces.measured, "read"), metrics=(
        Metric("written/s", "messages written to a trace file", "/s", better="higher", name="written"),
        Metric("read/s", "messages read from a trace file", "/s", better="higher", name="read"),
    )),
    Benchmark("trace-stored", "traces", partial(traces.measured, "stored"), metrics=(
        Metric("messages/s", "a stream's past messages recorded", "/s", 20_000, "higher", name="rate"),
    )),
    Benchmark("trace-replay", "traces", partial(traces.measured, "replay"), metrics=(
        Metric("messages/s", "messages replayed into a synced stream", "/s", better="higher", name="rate"),
    )),
    *(Benchmark(f"edge-round-{edges}", "simulate", partial(simulated.curve, edges), repeats=2, metrics=(
        Metric("ms", f"one edge's round, of {edges:,} edges", "ms", name="ms"),
    )) for edges in (100, 1000, 10_000)),
    Benchmark("factory-week", "simulate", partial(simulated.shipped, "factory-week"), repeats=1, metrics=(
        Metric("seconds", "factory-week, virtual time", "s", 60),
        Metric("unmet", "factory-week, unmet expectations", "", 0),
    )),
    Benchmark("ten-thousand-edges", "simulate", partial(simulated.shipped, "ten-thousand-edges"), repeats=1,
              timeout=900, metrics=(
        Metric("seconds", "ten-thousand-edges, virtual time", "s", 120),
        Metric("MB", "ten-thousand-edges, peak memory", "MB", 2000),
        Metric("left out", "ten-thousand-edges, updates not counted", "", 0),
        Metric("unmet", "ten-thousand-edges, unmet expectations", "", 0),
    )),
    Benchmark("fleet", "fleet", fleet.rounds, repeats=1, timeout=600, metrics=(
        Metric("round", "round of 1,000 updates, real broker", "s", 15),
        Metric("lost", "updates of the round not counted", "", 0),
    )),
    *contestants(),
]  # fmt: skip
BENCHMARKS = {each.name: each for each in _ALL}
assert len(BENCHMARKS) == len(_ALL), "two benchmarks share a name"

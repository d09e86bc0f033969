"""Numbers for Prometheus: requests, tokens, drafts and times. No label names a request or a key."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nextok.api.errors import ApiError
from nextok.api.fields import FIELDS
from nextok.api.served import Served
from nextok.generation.output import Output
from nextok.serve.admission import Admission

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Upper ends of the classes of times."""
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
"""Likewise, of the time of a token."""
TOKENS = (1, 8, 32, 128, 512, 2048, 8192, 32768, 131072)
"""Upper ends of the classes of numbers of tokens."""
FIELD_NAMES = {field.name for field in FIELDS}


class Metrics:
    """The counters of one server, in a registry of its own; names are vLLM's where it has the same."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def count(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nextok_{name}", text, labels, registry=self.registry)

        def show(name: str, text: str) -> Gauge:
            return Gauge(f"nextok_{name}", text, registry=self.registry)

        def measure(name: str, text: str, ends: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"nextok_{name}", text, buckets=ends, registry=self.registry)

        self._running = show("num_requests_running", "Requests whose texts are being written.")
        self._waiting = show("num_requests_waiting", "Requests in the queue.")
        self._rows = show("num_rows_running", "Texts being written, beams counted.")
        self._kept_bytes = show("kept_cache_bytes", "Bytes of caches of ended chats.")
        self._kept_count = show("kept_caches", "Caches of ended chats.")
        self._answers = count("http_requests", "Answers, by route and status.", "route", "status")
        self._rejected = count("requests_rejected", "Requests refused because of load.", "reason")
        self._aborted = count("requests_aborted", "Requests whose client left.")
        self._invalid = count("invalid_requests", "Requests that were wrong, by the field.", "param")
        self._prompt_tokens = count("prompt_tokens", "Tokens of prompts.")
        self._queries = count("prefix_cache_queries", "Tokens of prompts that were looked for in a cache.")
        self._cached = count("prefix_cache_hits", "Tokens of prompts that were found in a cache.")
        self._written = count("generation_tokens", "Tokens written.")
        self._ended = count("request_success", "Texts, by the reason of their end.", "finished_reason")
        self._drafts = count("spec_decode_num_drafts", "Guesses of drafts.")
        self._drafted = count("spec_decode_num_draft_tokens", "Tokens guessed by drafts.")
        self._accepted = count("spec_decode_num_accepted_tokens", "Guessed tokens that were right.")
        self._per_position = count(
            "spec_decode_num_accepted_tokens_per_pos", "The same, by their place in the guess.", "position"
        )
        self._queued = measure("request_queue_time_seconds", "In the queue.")
        self._first = measure("time_to_first_token_seconds", "From the coming of a request to its first token.")
        self._prefill = measure("request_prefill_time_seconds", "From the end of the queue to the first token.")
        self._decode = measure("request_decode_time_seconds", "From the first token to the last.")
        self._between = measure("inter_token_latency_seconds", "Between two tokens, the mean of each text.", FAST)
        self._whole = measure("e2e_request_latency_seconds", "From the coming of a request to its last token.")
        self._prompt_sizes = measure("request_prompt_tokens", "Tokens of a prompt.", TOKENS)
        self._text_sizes = measure("request_generation_tokens", "Tokens written for a prompt.", TOKENS)

    def count(self, output: Output, waited: float) -> None:
        """Take in the texts of one prompt, which had to wait so many seconds."""
        stats = output.stats
        self._prompt_tokens.inc(stats.prompt_tokens)
        self._queries.inc(stats.prompt_tokens)
        self._cached.inc(stats.cached_tokens)
        self._written.inc(stats.generated_tokens)
        self._drafts.inc(stats.verifications)
        self._drafted.inc(stats.drafted)
        self._accepted.inc(stats.accepted)
        for place in range(1, len(stats.accepted_lengths)):
            self._per_position.labels(place - 1).inc(sum(stats.accepted_lengths[place:]))
        for choice in output.choices:
            self._ended.labels(choice.finish_reason).inc()
        decoding = stats.seconds - stats.seconds_to_first_token
        self._queued.observe(waited)
        self._first.observe(waited + stats.seconds_to_first_token)
        self._prefill.observe(stats.seconds_to_first_token)
        self._decode.observe(decoding)
        self._whole.observe(waited + stats.seconds)
        steps = max(len(choice.tokens) for choice in output.choices) - 1
        if steps > 0:
            self._between.observe(decoding / steps)
        self._prompt_sizes.observe(stats.prompt_tokens)
        self._text_sizes.observe(stats.generated_tokens)

    def count_answer(self, route: str, status: int) -> None:
        """One more answer."""
        self._answers.labels(route, status).inc()

    def count_refused(self, error: ApiError) -> None:
        """One more request that was refused. A field is told only if it is one of ours: clients choose names."""
        if error.status == 503:
            self._rejected.labels(error.code or "other").inc()
        elif error.status == 400:
            self._invalid.labels(error.param if error.param in FIELD_NAMES else "other").inc()

    def count_aborted(self) -> None:
        """One more request whose client left."""
        self._aborted.inc()

    def write(self, admission: Admission, served: Served | None) -> bytes:
        """All of them in Prometheus' text format."""
        self._running.set(admission.running)
        self._waiting.set(admission.waiting)
        self._rows.set(admission.rows)
        if served:
            self._kept_bytes.set(served.lm.engine.kept.bytes)
            self._kept_count.set(served.lm.engine.kept.count)
        return bytes(generate_latest(self.registry))

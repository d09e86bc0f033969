"""Numbers for Prometheus: requests, tokens, drafts and times. No label names a request or a key."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nextok.generation.output import Output

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Upper ends of the classes of times."""


class Metrics:
    """The counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def count(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nextok_{name}", text, labels, registry=self.registry)

        def measure(name: str, text: str) -> Histogram:
            return Histogram(f"nextok_{name}", text, buckets=SECONDS, registry=self.registry)

        self.running = Gauge("nextok_num_requests_running", "Texts in flight.", registry=self.registry)
        self._answers = count("http_requests", "Answers, by route and status.", "route", "status")
        self._prompt_tokens = count("prompt_tokens", "Tokens of prompts.")
        self._cached = count("prefix_cache_hits", "Tokens of prompts that were found in a cache.")
        self._kept = Gauge("nextok_kept_cache_bytes", "Bytes of caches of ended chats.", registry=self.registry)
        self._written = count("generation_tokens", "Tokens written.")
        self._ended = count("request_success", "Texts, by the reason of their end.", "finished_reason")
        self._drafted = count("spec_decode_num_draft_tokens", "Tokens guessed by drafts.")
        self._accepted = count("spec_decode_num_accepted_tokens", "Guessed tokens that were right.")
        self._per_position = count(
            "spec_decode_num_accepted_tokens_per_pos", "The same, by their place in the guess.", "position"
        )
        self._first = measure("time_to_first_token_seconds", "From a request's start to its first token.")
        self._whole = measure("e2e_request_latency_seconds", "From a request's start to its end.")

    def count(self, output: Output) -> None:
        """Take in the texts of one prompt."""
        stats = output.stats
        self._prompt_tokens.inc(stats.prompt_tokens)
        self._cached.inc(stats.cached_tokens)
        self._written.inc(stats.generated_tokens)
        self._drafted.inc(stats.drafted)
        self._accepted.inc(stats.accepted)
        for place in range(1, len(stats.accepted_lengths)):
            self._per_position.labels(place - 1).inc(sum(stats.accepted_lengths[place:]))
        for choice in output.choices:
            self._ended.labels(choice.finish_reason).inc()
        self._first.observe(stats.seconds_to_first_token)
        self._whole.observe(stats.seconds)

    def count_answer(self, route: str, status: int) -> None:
        """One more answer."""
        self._answers.labels(route, status).inc()

    def write(self, running: int, kept: int) -> bytes:
        """All of them in Prometheus' text format; `running` texts are in flight, `kept` bytes of caches kept."""
        self.running.set(running)
        self._kept.set(kept)
        return bytes(generate_latest(self.registry))

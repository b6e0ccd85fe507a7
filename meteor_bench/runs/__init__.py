"""What the commands do: a run, a sweep, a choice, several processes, regression checks, latency, kept patches."""

"""What the commands do: one run, a sweep, several processes, regression checks, latency, pictures of kept patches."""

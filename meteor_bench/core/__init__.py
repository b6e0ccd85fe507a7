"""The model-independent machinery: tokens, budgets, the pruner protocol, the engine, counting and timing."""

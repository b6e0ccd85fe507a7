"""Models composed of vision towers, a fusion, and a language-model decoder; one file per family."""

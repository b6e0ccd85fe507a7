"""What the user asked for: flags and YAML files, checked before anything heavy is imported."""

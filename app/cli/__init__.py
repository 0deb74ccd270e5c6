"""What people type, one file a command. Commands import their world when they run, so that `--help` is quick."""

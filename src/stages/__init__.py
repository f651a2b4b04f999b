"""The console commands, one file each: what happens, in the order it happens."""

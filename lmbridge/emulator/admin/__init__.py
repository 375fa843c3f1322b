"""`/_emulator`: the emulator's own interface, by which programs on this machine turn it and look inside."""

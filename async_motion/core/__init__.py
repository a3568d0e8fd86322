"""The pure part: arithmetic and contracts. No loop, clock, file, socket or log; imports only `errors`."""

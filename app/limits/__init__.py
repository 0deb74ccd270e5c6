"""The two forms of the Limiter port: in this process's memory, and in Redis or Valkey for several processes."""

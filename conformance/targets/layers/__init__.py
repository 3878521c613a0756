"""The layers on a cluster, as a target's methods need them: doors, credentials, records, workloads."""

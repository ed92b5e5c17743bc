"""Many GPUs and nodes, on Ray: one task a GPU, one run file a GPU. Only `cluster` and `agent` import Ray, when used."""

"""The limits that every plan of the CUDA kernels keeps."""


def check(plan, device):
    """Fails unless a plan keeps the limits of a device, one of `known_devices`."""
    assert plan["least_bytes"] > 0, plan
    assert 1 <= len(plan["launches"]) <= 3, plan
    for launch in plan["launches"]:
        assert launch["threads"] in range(32, 1025, 32), plan
        assert 1 <= launch["blocks"] < 1 << 31, plan
        assert launch["shared_bytes"] <= device["shared_bytes_per_block"], plan
        assert launch["cluster"] <= device["max_cluster"], plan
        assert launch["blocks"] % launch["cluster"] == 0, plan
        resident = launch["threads_resident"]
        assert resident <= device["max_threads_per_multiprocessor"], plan
        # Whole blocks, and known together with what their threads load.
        assert resident % launch["threads"] == 0, plan
        assert (resident > 0) == (launch["bytes_in_flight"] > 0), plan

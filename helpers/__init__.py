import os

# Threads that wait by spinning slow one another down on cores that are shared, with the processes that read photos for
# instance: small layers by an order of magnitude. It must be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

"""Topologies of every kind, for tests of what the pages make of them."""

from stimcore.subnets.topology import Topology

NO_SKIP_PATH = "it changes the resolution, so there is no skip path around it"
RESNET20 = Topology.of("resnet20", [3, 3, 3], {4: NO_SKIP_PATH, 7: NO_SKIP_PATH})
MOBILENET = Topology.of("mobilenetv3", [2, 3, 4, 2, 3], dict.fromkeys((1, 3, 6, 10, 12), NO_SKIP_PATH))
RESNET110 = Topology.of("resnet110", [18, 18, 18], {19: NO_SKIP_PATH, 37: NO_SKIP_PATH})
DENSENET = Topology.of("densenet264", [6, 12, 64, 48], ordered_only=True)
SINGLE = Topology.of("single", [1], {1: NO_SKIP_PATH})
EVERY_NETWORK = [RESNET20, MOBILENET, RESNET110, DENSENET, SINGLE]

"""What is served: bundles and run folders by name."""

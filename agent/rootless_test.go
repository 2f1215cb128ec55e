package agent_test

// unprivileged marks the environment of the tests that run again as nobody.
const unprivileged = "WEFT_TEST_UNPRIVILEGED"

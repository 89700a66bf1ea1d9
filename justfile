# Each recipe is a line that also works without just (https://just.systems).

# List the recipes.
default:
    @{{ just_executable() }} --list --unsorted

# Build the server, the load generator and their tests.
build:
    cargo build --all-targets

# Run the tests, or those whose names contain the argument.
test *FILTER:
    cargo test {{ FILTER }}

# Check form, lints, documentation and dependencies. `.ci/run` runs every test as well.
check:
    .ci/run quick

# Start a server for development, with the given flags.
run *FLAGS:
    cargo run -- dev {{ FLAGS }}

# Measure one boundary; docs/internals/measurements.md lists them.
bench NAME:
    cargo bench --bench {{ NAME }}

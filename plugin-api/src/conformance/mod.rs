//! The test suite that every backend of a class must pass.

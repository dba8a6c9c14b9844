//! Bodies in, questions to the model out.

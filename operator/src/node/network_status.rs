//! Brings what pods got to their annotation.

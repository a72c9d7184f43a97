//! Parses sizes in bytes: `64MiB`, `1GiB`.

const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Parses a size: a whole number and a unit, in upper or lower case.
pub(crate) fn parse_byte_size(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = UNITS.iter().find(|(name, _)| unit.trim().eq_ignore_ascii_case(name)).map(|(_, factor)| *factor);
    let Some(factor) = factor.filter(|_| !number.is_empty()) else {
        return Err("write a whole number and KiB, MiB or GiB, such as 64MiB".to_owned());
    };
    let bytes = number.parse().ok().and_then(|number: usize| number.checked_mul(factor));
    bytes.ok_or_else(|| "more than this machine can address; write a smaller size".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_byte_size;

    #[test]
    fn sizes_have_a_number_and_a_unit() {
        for (text, bytes) in
            [("1KiB", 1024), ("64MiB", 64 << 20), (" 2 gib ", 2 << 30), ("64mib", 64 << 20), ("0KiB", 0)]
        {
            assert_eq!(parse_byte_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn an_unknown_unit_or_a_missing_number_is_reported_with_the_units() {
        for text in ["", "64", "64M", "64MB", "64 k", "1.5GiB", "-1MiB", "MiB", "64MiBs", "0x10KiB"] {
            assert!(parse_byte_size(text).unwrap_err().contains("KiB, MiB or GiB"), "{text}");
        }
        for text in ["18446744073709551615GiB", "99999999999999999999KiB"] {
            assert!(parse_byte_size(text).unwrap_err().contains("more than"), "{text}");
        }
    }
}

//! Who has to agree for a call to be recorded, by jurisdiction.

use std::collections::BTreeMap;

use crate::model::Agreement::{self, AllParty, OneParty};
use crate::model::{Jurisdiction, Span};

/// A jurisdiction by ISO 3166, who has to agree there, and where that is written. A part that is not named follows its
/// country; what is named nowhere counts as [`AllParty`]. So the United States are not in it: where a caller is in them decides.
///
/// It tells of the secrecy of what is spoken, as it applies to whoever takes part in a call. Duties to inform come on
/// top of it, wherever the GDPR or a law like it applies. Laws change, and courts read them: an operator says otherwise in the
/// configuration.
const LAWS: &[(&str, Agreement, &str)] = &[
    ("AU", AllParty, "Telecommunications (Interception and Access) Act 1979, ss. 6 and 7"),
    ("CA", OneParty, "Criminal Code, s. 184(2)(a)"),
    ("CH", AllParty, "Criminal Code, Art. 179ter; exceptions in Art. 179quinquies"),
    ("DE", AllParty, "Criminal Code, § 201"),
    ("DK", OneParty, "Criminal Code, § 263"),
    ("ES", OneParty, "Constitutional Court, judgment 114/1984; Criminal Code, Art. 197"),
    ("FI", OneParty, "Criminal Code, chapter 24, section 5"),
    ("FR", AllParty, "Criminal Code, Art. 226-1"),
    ("IE", OneParty, "Postal and Telecommunications Services Act 1983, s. 98, as amended in 1993"),
    ("IT", OneParty, "Court of Cassation, joint criminal chambers, judgment 36747/2003"),
    ("NL", OneParty, "Criminal Code, Art. 139c"),
    ("NO", OneParty, "Criminal Code, § 205"),
    ("NZ", OneParty, "Crimes Act 1961, s. 216B"),
    ("PL", OneParty, "Criminal Code, Art. 267(3)"),
    ("PT", AllParty, "Criminal Code, Art. 199"),
    ("SE", OneParty, "Criminal Code, chapter 4, section 9a"),
    ("US-AZ", OneParty, "A.R.S. § 13-3005"),
    ("US-CA", AllParty, "Penal Code, §§ 632 and 632.7"),
    ("US-CO", OneParty, "C.R.S. § 18-9-303"),
    ("US-CT", AllParty, "Conn. Gen. Stat. § 52-570d"),
    ("US-DC", OneParty, "D.C. Code § 23-542"),
    ("US-DE", AllParty, "11 Del. C. § 1335(a)(4); § 2402(c)(4) is laxer"),
    ("US-FL", AllParty, "Fla. Stat. § 934.03"),
    ("US-GA", OneParty, "O.C.G.A. § 16-11-66"),
    ("US-IL", AllParty, "720 ILCS 5/14-2"),
    ("US-MA", AllParty, "M.G.L. c. 272, § 99"),
    ("US-MD", AllParty, "Md. Code, Cts. & Jud. Proc. § 10-402"),
    ("US-MN", OneParty, "Minn. Stat. § 626A.02"),
    ("US-MT", AllParty, "Mont. Code § 45-8-213"),
    ("US-NC", OneParty, "N.C.G.S. § 15A-287"),
    ("US-NH", AllParty, "RSA 570-A:2"),
    ("US-NJ", OneParty, "N.J.S.A. 2A:156A-4"),
    ("US-NV", AllParty, "NRS 200.620"),
    ("US-NY", OneParty, "Penal Law, §§ 250.00 and 250.05"),
    ("US-OH", OneParty, "O.R.C. § 2933.52"),
    ("US-PA", AllParty, "18 Pa.C.S. §§ 5703 and 5704"),
    ("US-TN", OneParty, "Tenn. Code § 39-13-601"),
    ("US-TX", OneParty, "Penal Code, § 16.02"),
    ("US-VA", OneParty, "Va. Code § 19.2-62"),
    ("US-WA", AllParty, "RCW 9.73.030"),
    ("US-WI", OneParty, "Wis. Stat. § 968.31"),
];

/// What the operator says of recordings.
#[derive(Clone, Debug, Default)]
pub struct RecordingRules {
    /// Who has to agree, by jurisdiction, where that is not what the vault thinks.
    pub jurisdictions: BTreeMap<String, Agreement>,
    /// For which purposes calls of a queue are recorded in any case, by queue.
    pub queues: BTreeMap<String, Vec<String>>,
    /// What becomes of what was recorded until somebody objected.
    pub after_objection: Span,
}

/// What the law of the strictest jurisdiction says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Law {
    /// Who has to agree.
    pub agreement: Agreement,
    /// The jurisdiction; empty when it is not known.
    pub jurisdiction: String,
    /// Where that is written.
    pub source: &'static str,
}

impl RecordingRules {
    /// The law of one jurisdiction.
    fn law(&self, jurisdiction: Option<&Jurisdiction>) -> Law {
        let Some(known) = jurisdiction else {
            return Law { agreement: AllParty, jurisdiction: String::new(), source: "the jurisdiction is not known" };
        };
        let named = |code: &str| {
            let ours = self.jurisdictions.get(code).map(|agreement| (*agreement, "the configuration of the vault"));
            ours.or_else(|| {
                LAWS.iter().find(|(law, ..)| *law == code).map(|(_, agreement, source)| (*agreement, *source))
            })
        };
        let found = named(known.as_str()).or_else(|| named(known.country()));
        let (agreement, source) = found.unwrap_or((AllParty, "the vault does not know the law there"));
        Law { agreement, jurisdiction: known.as_str().to_owned(), source }
    }

    /// The strictest law among those of a call, the same in whichever order they are named.
    #[must_use]
    pub fn strictest<'j>(&self, jurisdictions: impl IntoIterator<Item = Option<&'j Jurisdiction>>) -> Law {
        let strictest = jurisdictions.into_iter().map(|one| self.law(one)).max();
        strictest.unwrap_or_else(|| self.law(None))
    }

    /// The purposes that a queue adds to those of its calls.
    #[must_use]
    pub fn purposes_of(&self, queue: &str) -> &[String] {
        self.queues.get(queue).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(rules: &RecordingRules, code: &str) -> Agreement {
        rules.law(Some(&Jurisdiction::parse(code).unwrap())).agreement
    }

    #[test]
    fn every_law_is_of_a_jurisdiction_has_a_source_and_stands_in_order() {
        for (code, _, source) in LAWS {
            assert_eq!(Jurisdiction::parse(code).unwrap().as_str(), *code);
            assert!(source.len() > 8, "{code}");
        }
        assert!(LAWS.is_sorted_by(|one, other| one.0 < other.0), "each once, in order");
    }

    #[test]
    fn a_part_follows_its_country_and_what_nobody_knows_is_strict() {
        let rules = RecordingRules::default();
        for (code, expected) in [
            ("DE", AllParty),
            ("DE-BY", AllParty),
            ("PL", OneParty),
            ("CA-QC", OneParty),
            ("US-NY", OneParty),
            ("US-CA", AllParty),
            ("US", AllParty),
            ("US-ZZ", AllParty),
            ("ZZ", AllParty),
        ] {
            assert_eq!(agreement(&rules, code), expected, "{code}");
        }
        assert_eq!(rules.law(None).agreement, AllParty);
    }

    #[test]
    fn the_operator_has_the_last_word_and_a_part_of_a_country_the_first() {
        let jurisdictions =
            [("PL", AllParty), ("US", OneParty), ("DE-BY", OneParty)].map(|(code, law)| (code.to_owned(), law));
        let rules = RecordingRules { jurisdictions: jurisdictions.into(), ..RecordingRules::default() };
        assert_eq!(agreement(&rules, "PL"), AllParty);
        assert_eq!(agreement(&rules, "US-ZZ"), OneParty);
        assert_eq!(agreement(&rules, "US-CA"), AllParty, "what is known of the part is nearer than its country");
        assert_eq!((agreement(&rules, "DE-BY"), agreement(&rules, "DE")), (OneParty, AllParty));
    }

    #[test]
    fn the_strictest_law_counts_in_whichever_order() {
        let rules = RecordingRules::default();
        let (de, pl) = (Jurisdiction::parse("DE").unwrap(), Jurisdiction::parse("PL").unwrap());
        let law = rules.strictest([Some(&pl), Some(&de)]);
        assert_eq!((law.agreement, law.jurisdiction.as_str()), (AllParty, "DE"));
        assert_eq!(law, rules.strictest([Some(&de), Some(&pl)]));
        assert_eq!(rules.strictest([Some(&pl)]).agreement, OneParty);
        assert_eq!(rules.strictest([Some(&pl), None]).agreement, AllParty);
    }
}

"""What FHIR resources are made of: references, codings, quantities.

References.of(bundle).find("Medication/7")       the resource, or None where the reference is broken
quantity({"valueQuantity": {"value": 38.2, "code": "Cel"}})      ("38.2", "Cel", None)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class References:
    """A bundle's resources in order, and by every name that a reference may use."""

    entries: tuple[Resource, ...]
    by_name: dict[str, Resource]

    @classmethod
    def of(cls, bundle: Resource) -> References:
        by_name: dict[str, Resource] = {}
        entries = []
        for entry in bundle.get("entry", []):
            resource = entry.get("resource") if isinstance(entry, dict) else None
            if not isinstance(resource, dict):
                entries.append({"resourceType": "empty entry"})
                continue
            entries.append(resource)
            by_name[str(entry.get("fullUrl"))] = resource
            by_name[f"{resource.get('resourceType')}/{resource.get('id')}"] = resource
        return cls(tuple(entries), by_name)

    def find(self, reference: str | None, inside: Resource | None = None) -> Resource | None:
        """The resource that is meant: by fullUrl, 'Type/id', an absolute URL that ends so, or '#id' among what `inside` contains."""
        if not reference:
            return None
        if reference.startswith("#"):
            return next((r for r in (inside or {}).get("contained", []) if r.get("id") == reference[1:]), None)
        plain = reference.split("/_history/")[0]
        return self.by_name.get(plain) or self.by_name.get("/".join(plain.split("/")[-2:]))

    def subject(self, resource: Resource) -> tuple[str | None, str | None]:
        """(subject_id, None), or (None, why not). In a bundle without any Patient the reference's own id stands."""
        reference = (resource.get("subject") or resource.get("patient") or {}).get("reference")
        if not reference:
            return None, "names no subject"
        found = self.find(reference, resource)
        if found is not None:
            return str(found.get("id")), None
        if any(entry.get("resourceType") == "Patient" for entry in self.entries):
            return None, f"broken reference {reference}"
        return str(reference).split("/")[-1].removeprefix("urn:uuid:"), None


def coding(concept: Resource | None, system: str | None = None) -> tuple[str, str]:
    """(code, words) of a CodeableConcept: the coding of `system` if there is one, else the first. '' where there is none."""
    codings = (concept or {}).get("coding") or [{}]
    best = next((c for c in codings if c.get("system") == system), codings[0])
    return str(best.get("code") or ""), str(best.get("display") or (concept or {}).get("text") or "")


def concept_text(concept: Resource | None) -> str:
    """The words of a CodeableConcept: its text, else a display, else a code."""
    code, words = coding(concept)
    return str((concept or {}).get("text") or words or code).strip()


def quantity(part: Resource) -> tuple[str | None, str | None, str | None]:
    """(number as text, unit, words) of value[x]. A quantity with a comparator has both: ('0.02', 'ng/mL', '<0.02')."""
    value = part.get("valueQuantity")
    if value is not None:
        number = None if value.get("value") is None else str(value["value"])
        unit = value.get("code") or value.get("unit")
        return number, unit, f"{value['comparator']}{number}" if value.get("comparator") else None
    if part.get("valueInteger") is not None:
        return str(part["valueInteger"]), None, None
    if part.get("valueCodeableConcept") is not None:
        return None, None, concept_text(part["valueCodeableConcept"])
    words = next((v for k, v in part.items() if k.startswith("value") and isinstance(v, str | bool | int | float)), None)
    return None, None, None if words is None else str(words)


def medication_name(resource: Resource, resources: References) -> tuple[str, str | None]:
    """(name, None), or ('', why not): from the concept, or the contained or bundled Medication that is referred to."""
    name = concept_text(resource.get("medicationCodeableConcept"))
    reference = (resource.get("medicationReference") or {}).get("reference")
    if not name and reference:
        medication = resources.find(reference, resource)
        if medication is None:
            return "", f"broken reference {reference}"
        name = concept_text(medication.get("code"))
    return (name, None) if name else ("", "no name")
